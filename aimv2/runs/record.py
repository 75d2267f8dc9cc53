"""What a run leaves behind: written by runs, read by analysis. The layout is an interface (docs/architecture.md).

runs/<signature>/
  config.json            the whole RunConfig
  result.json            there when the run is done: final metrics with units, cost, and the attempt that made them
  attempts/NNNN/         one try at the run; only its own process writes here
    holder.json heartbeat released      whose it is (aimv2/runs/lease.py)
    manifest.json        versions, hardware, threads, code, commit, data fingerprints, where it went on from
    metrics.jsonl        a row per step while running
    checkpoint.safetensors              until the run is done: what it takes to go on (aimv2/training/checkpoint.py)
    metrics.parquet      the same, once done
    weights.safetensors tokenizer.json examples.json
    failure.json         in place of a result: the cause, a sentence, the traceback
    interrupted          in place of both: it was asked to stop, and did so in good order
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from aimv2.config.run_config import RunConfig, to_dict
from aimv2.config.signature import signature
from aimv2.errors import UsageError
from aimv2.evaluation.metrics import Metric
from aimv2.runs.failure import Failure, read_failure
from aimv2.runs.files import read_json, sync, write_json
from aimv2.runs.lease import Clock, Lease, LeaseLostError, acquire, host_time, is_held, latest_attempt
from aimv2.runs.rows import last_rows, read_rows

if TYPE_CHECKING:
    import pandas as pd

LAYOUT_VERSION = 1

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_PARTIAL = ".checkpoint"  # a folder, since safetensors gives what it writes names of its own

State = Literal["new", "running", "failed", "done"]


class RunFolder:
    """The folder of one run, for reading at any time and for claiming the right to write."""

    def __init__(self, runs_dir: Path, name: str) -> None:
        self.name = name
        self.path = runs_dir / name

    @property
    def is_done(self) -> bool:
        return (self.path / "result.json").exists()

    def state(self, clock: Clock = host_time) -> State:
        """What has become of it.

        Args:
            clock: as in ``aimv2.runs.lease.is_held``.
        """
        if self.is_done:
            return "done"
        attempt = latest_attempt(self.path)
        if attempt is None:
            return "new"
        if is_held(attempt, clock):
            return "running"
        return "failed" if (attempt / "failure.json").exists() else "new"

    @property
    def num_attempts(self) -> int:
        attempt = latest_attempt(self.path)
        return 0 if attempt is None else int(attempt.name)

    @property
    def num_tries(self) -> int:
        """Attempts but those that were asked to stop, which say nothing against the run."""
        return self.num_attempts - len(list(self.path.glob("attempts/*/interrupted")))

    def acquire(self, config: RunConfig, *, log: str = "") -> "Attempt | None":
        """The right to run it, or None if it is done or another process is at it.

        Args:
            log: where what this process prints can be read, for those who look after it.

        Raises:
            UsageError: the folder cannot be written.
        """
        assert signature(config) == self.name, f"{self.name} is not the name of this config"
        if self.is_done:
            return None
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lease = acquire(self.path, log=log)
        except OSError as error:
            raise UsageError(f"the run folder {self.path} cannot be written: {error.strerror}") from error
        if lease is not None and self.is_done:  # published between the first look and the claim
            lease.release()
            return None
        return None if lease is None else Attempt(self, lease, config)

    def result(self) -> dict[str, Any]:
        """The final record; its ``metrics`` map names to value, unit and evaluation."""
        path = self.path / "result.json"
        result = read_json(path)
        if not isinstance(result, dict) or not {"attempt", "metrics", "layout_version"} <= result.keys():
            raise UsageError(f"{path} is no result of a run; delete {self.path} to have the run done again")
        if result["layout_version"] != LAYOUT_VERSION:
            raise UsageError(
                f"{self.path} has layout {result['layout_version']} and this version reads layout {LAYOUT_VERSION}; use"
                " the version that made it, or another runs_dir"
            )
        return result

    def failure(self) -> Failure | None:
        """Why the latest attempt, which is over, has no result; None if there was none."""
        attempt = latest_attempt(self.path)
        if attempt is None:
            return None
        if (attempt / "failure.json").exists():
            return read_failure(attempt)
        if (attempt / "interrupted").exists():
            return Failure("time", "it was asked to stop, or its time was up; it goes on from its checkpoint")
        return Failure("node", "it ended without a word: killed, or out of memory?")

    def file(self, name: str) -> Path:
        """A file of the attempt that made the result."""
        return self.path / "attempts" / f"{self.result()['attempt']:04d}" / name

    def metrics(self) -> "pd.DataFrame":
        """A row per step: ``step``, ``samples``, ``train_flops``, ``seconds`` and whatever was measured then."""
        import pandas as pd  # here, for it takes longer to load than to look at a thousand runs

        path = self.file("metrics.parquet")
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read; delete {self.path} to have the run done again") from error

    def measured(self) -> Path | None:
        """The attempt that made the result, or else the latest one so far; None before there is any."""
        return self.file("") if self.is_done else latest_attempt(self.path)

    def rows(self) -> list[dict[str, Any]]:
        """What that attempt measured."""
        attempt = self.measured()
        try:
            return [] if attempt is None else read_rows(attempt)
        except (FileNotFoundError, ValueError):
            return []

    def last_row(self) -> dict[str, Any]:
        """The newest row of the attempt under way, or nothing."""
        attempt = latest_attempt(self.path)
        rows = [] if attempt is None else last_rows(attempt)
        return rows[-1] if rows else {}


class Attempt:
    """One try at a run, as a context: leaving it without ``publish`` or ``fail`` hands the run back unfinished.

    Attributes:
        seconds: wall time of the attempt, and what the attempt that it went on from had taken up to there.
        cpu_seconds: the same of the CPU.
        working_seconds: wall time of this attempt in training and evaluation.
    """

    def __init__(self, run: RunFolder, lease: Lease, config: RunConfig) -> None:
        self.run = run
        self.folder = lease.folder
        self._lease = lease
        self._config = config
        self._started = time.perf_counter()
        self._started_cpu = time.process_time()
        self.working_seconds = 0.0
        self._rows: Any = None

    def __enter__(self) -> Self:
        try:
            write_json(self.run.path / "config.json", to_dict(self._config))
            self._rows = (self.folder / "metrics.jsonl").open("a")
        except OSError:
            self._lease.release()
            raise
        self._lease.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is KeyboardInterrupt:
                with contextlib.suppress(OSError):  # a full disk; then this counts as a try
                    (self.folder / "interrupted").touch()
            self._rows.close()  # which tries once more to write what a full disk refused
        finally:
            self._lease.__exit__(kind, error, trace)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    @property
    def cpu_seconds(self) -> float:
        return time.process_time() - self._started_cpu

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Count the context as training or evaluation."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.working_seconds += time.perf_counter() - started

    def earlier(self) -> list[Path]:
        """Folders of the run's earlier attempts, newest first."""
        numbers = (int(path.name) for path in self.folder.parent.glob("*") if path.name.isdecimal())
        earlier = sorted((number for number in numbers if number < self._lease.number), reverse=True)
        return [self.folder.with_name(f"{number:04d}") for number in earlier]

    def resume_from(self, rows: list[dict[str, Any]], *, seconds: float, cpu_seconds: float) -> None:
        """Begin with the rows that an earlier attempt measured, and with the time that they took."""
        self.write_rows(rows)
        self._started -= seconds
        self._started_cpu -= cpu_seconds

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        write_json(self.folder / "manifest.json", manifest)

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        """Append metric rows, each with ``step``, ``samples``, ``train_flops``, ``seconds`` and named values."""
        self._lease.check()  # who lost the run stops here, not after hours
        self._rows.writelines(json.dumps(row) + "\n" for row in rows)
        self._rows.flush()

    def sync_rows(self) -> None:
        """Wait until the rows so far are on the disk.

        Raises:
            LeaseLostError: another process took the run over meanwhile.
        """
        self._lease.check()
        os.fsync(self._rows.fileno())

    def publish(self, metrics: Mapping[str, Metric], **more: Any) -> None:
        """Make the result the run's, once and for all.

        Raises:
            LeaseLostError: another process took the run over meanwhile.
        """
        import pandas as pd

        rows = read_rows(self.folder)
        pd.DataFrame(rows, columns=None if rows else ["step", "samples"]).to_parquet(self.folder / "metrics.parquet")
        write_json(
            self.folder / "result.json",
            {
                "layout_version": LAYOUT_VERSION,
                "signature": self.run.name,
                "attempt": self._lease.number,
                "metrics": {name: asdict(metric) for name, metric in metrics.items()},
                "seconds": self.seconds,
                "cpu_seconds": self.cpu_seconds,
                **more,
            },
        )
        for path in self.folder.iterdir():
            if path.is_file():
                sync(path)
        sync(self.folder)
        self._lease.check()
        try:
            os.link(self.folder / "result.json", self.run.path / "result.json")  # refuses to replace another
        except FileExistsError as error:
            raise LeaseLostError(self.folder) from error
        sync(self.run.path)

    def fail(self, failure: Failure, traceback_text: str) -> None:
        write_json(self.folder / "failure.json", asdict(failure) | {"traceback": traceback_text})


class Unrecorded:
    """What ranks other than the first have in an attempt's place: the run's record is rank 0's."""

    @property
    def seconds(self) -> float:
        return time.perf_counter()

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        pass
