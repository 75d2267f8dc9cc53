"""The record of a run, written by runs and read by analysis. Its layout is an interface (docs/architecture.md)."""

import contextlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from aimv2.config.run_config import RunConfig, to_dict
from aimv2.config.signature import signature
from aimv2.errors import UsageError
from aimv2.evaluation.items import table
from aimv2.evaluation.metrics import Metric
from aimv2.runs import index
from aimv2.runs.failure import Failure, read_failure
from aimv2.runs.files import read_json, sync, write_json
from aimv2.runs.index import Entry
from aimv2.runs.lease import TIMING, Lease, LeaseLostError, Timing, Watch, acquire, is_held, latest_attempt
from aimv2.runs.rows import last_row, read_rows

if TYPE_CHECKING:
    import pandas as pd

LAYOUT_VERSION = 2

RUN_NAME = re.compile(r"v\d+-[0-9a-f]{12}")
ITEMS = "items.parquet"
BAD = "bad_samples.jsonl"
MAX_BAD = 10_000  # lines of that file; the result has the counts of all
CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_PARTIAL = ".checkpoint"  # a folder, because safetensors chooses the names of its temporary files
PROGRESS = "progress"
MAX_STALLED = 3  # attempts in a row without progress, after which a launch gives a run up
FLUSH_SECONDS = 5.0  # rows reach the file, and the lease is checked, at most this often

State = Literal["new", "running", "failed", "done"]


class RunFolder:
    """The folder of one run, to read at any time and to acquire the run."""

    def __init__(self, runs_dir: Path, name: str, *, timing: Timing = TIMING) -> None:
        self.name = name
        self.path = runs_dir / name
        self._timing = timing

    @property
    def is_done(self) -> bool:
        return (self.path / "result.json").exists()

    def state(self) -> State:
        """Return the state of the run, for displays: whether its process lives is judged by ``lease.is_held``."""
        if self.is_done:
            return "done"
        attempt = latest_attempt(self.path)
        if attempt is None:
            return "new"
        if is_held(attempt, self._timing):
            return "running"
        return "failed" if (attempt / "failure.json").exists() else "new"

    def entry(self) -> Entry | None:
        """Return the entry that the index should have for this run; None if there was no attempt."""
        if self.is_done:
            with contextlib.suppress(UsageError, KeyError, TypeError, ValueError):
                result = read_json(self.path / "result.json")
                done = Entry("done", int(result["attempt"]), layout=int(result["layout_version"]))
                manifest = read_json(self.path / "attempts" / f"{done.attempt:04d}" / "manifest.json")
                return done._replace(code=str(manifest["code"]))
            return Entry("done", self.num_attempts)
        attempt = latest_attempt(self.path)
        if attempt is None:
            return None
        if (attempt / "failure.json").exists():
            return Entry("failed", int(attempt.name), read_failure(attempt).cause)
        return Entry("idle" if (attempt / "released").exists() else "running", int(attempt.name))

    @property
    def num_attempts(self) -> int:
        attempt = latest_attempt(self.path)
        return 0 if attempt is None else int(attempt.name)

    def num_stalled(self, after: int = 0) -> int:
        """Return how many of the latest attempts in a row made no progress: no checkpoint, no part of the evaluation.

        Args:
            after: number of an attempt; it and earlier ones do not count. MAX_STALLED is the largest result.
        """
        numbers = range(self.num_attempts, after, -1)
        marks = (self.path / "attempts" / f"{number:04d}" / PROGRESS for number in numbers)
        stalled = takewhile(lambda mark: not mark.exists(), marks)
        return len(list(islice(stalled, MAX_STALLED)))

    def acquire(self, config: RunConfig, *, log: str = "", watch: Watch | None = None) -> "Attempt | None":
        """Acquire the run, or return None if it is done or another process may hold it; arguments as ``lease.acquire``.

        Raises:
            UsageError: the folder cannot be written.
        """
        assert signature(config) == self.name, f"{self.name} is not the name of this config"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lease = None if self.is_done else acquire(self.path, log=log, watch=watch, timing=self._timing)
            if lease is not None and self.is_done:  # published after the first check
                lease.release()
                lease = None
            if lease is None:  # the index did not know
                self.write_entry(self.entry())
                return None
            self.write_entry(Entry("running", lease.number))
        except OSError as error:
            raise UsageError(f"the run folder {self.path} cannot be written: {error.strerror}") from error
        return Attempt(self, lease, config)

    def write_entry(self, entry: Entry | None) -> None:
        """Write this run's entry to the index."""
        if entry is not None:
            index.write(self.path.parent, self.name, entry)

    def result(self) -> dict[str, Any]:
        """Return the result; its ``metrics`` map each name to value, unit, evaluation and warning.

        Raises:
            UsageError: the file is missing or broken, or has another layout.
        """
        path = self.path / "result.json"
        result = read_json(path)
        if not isinstance(result, dict) or not {"attempt", "metrics", "layout_version"} <= result.keys():
            raise UsageError(f"{path} is not the result of a run; delete {self.path} to repeat the run")
        if result["layout_version"] != LAYOUT_VERSION:
            raise UsageError(
                f"{self.path} has layout {result['layout_version']} and this version reads layout {LAYOUT_VERSION}; use"
                " the version that wrote it, or another runs_dir"
            )
        return result

    def failure(self) -> Failure | None:
        """Return why the latest attempt, which has ended, has no result; None if there was no attempt."""
        attempt = latest_attempt(self.path)
        if attempt is None:
            return None
        if (attempt / "failure.json").exists():
            return read_failure(attempt)
        is_interrupted = (attempt / "interrupted").exists()
        if self.num_stalled() == MAX_STALLED:
            last = "interrupted; give workers more time" if is_interrupted else "killed"
            return Failure(
                "node",
                f"{MAX_STALLED} attempts in a row ended without a checkpoint or a further part of the evaluation; the"
                f" last one was {last}",
            )
        if is_interrupted:
            return Failure("time", "the run was interrupted; the next attempt resumes from its checkpoint")
        return Failure("node", "the process ended without recording a reason (killed, or out of memory)")

    def file(self, name: str) -> Path:
        """Return the path of a file of the attempt that made the result."""
        return self.path / "attempts" / f"{self.result()['attempt']:04d}" / name

    def metrics(self) -> "pd.DataFrame":
        """Return a row per step: ``step``, ``samples``, ``train_flops``, ``seconds``, and the metrics of that step.

        Raises:
            UsageError: the file is missing or broken.
        """
        return self._table("metrics.parquet")

    def _table(self, name: str) -> "pd.DataFrame":
        import pandas as pd  # here, because loading it takes longer than listing a thousand runs

        path = self.file(name)
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read; delete {self.path} to repeat the run") from error

    def items(self) -> "pd.DataFrame":
        """Return a row per metric and evaluation item: ``metric``, ``item`` (int64, the same in every run), ``total``
        and ``weight`` (float32). A metric's value is sum(total) / sum(weight).

        Raises:
            UsageError: the file is missing or broken.
        """
        return self._table(ITEMS)

    def measured(self) -> Path | None:
        """Return the attempt that made the result, or else the latest one; None if there is none."""
        return self.file("") if self.is_done else latest_attempt(self.path)

    def rows(self) -> list[dict[str, Any]]:
        """Return the metric rows of ``measured``; none if they are missing or broken."""
        attempt = self.measured()
        with contextlib.suppress(FileNotFoundError, ValueError):
            return [] if attempt is None else read_rows(attempt)
        return []

    def last_row(self) -> dict[str, Any]:
        """Return the newest row of the latest attempt, or an empty dict."""
        attempt = latest_attempt(self.path)
        return last_row(attempt) if attempt else {}


class Attempt:
    """One try at a run. As a context: leaving it without ``publish`` or ``fail`` releases the run unfinished.

    Attributes:
        working_seconds: wall time that this attempt spent in training and evaluation.
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
        self._flushed_at = float("-inf")
        self._num_bad = 0
        self._code = ""
        self._entry = Entry("idle", lease.number)  # unless it fails or publishes

    def __enter__(self) -> Self:
        try:
            write_json(self.run.path / "config.json", to_dict(self._config))
            self._rows = (self.folder / "metrics.jsonl").open("a")
        except OSError:
            self._lease.release()
            raise
        self._lease.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            with contextlib.suppress(OSError):  # a full disk; these files are for displays
                if kind is KeyboardInterrupt:
                    (self.folder / "interrupted").touch()
                self.run.write_entry(self._entry)
            self._rows.close()  # retries the write that a full disk refused
        finally:
            self._lease.__exit__(kind, *error)

    @property
    def seconds(self) -> float:
        """Wall time of the attempt, plus that of the training it resumed from; ``cpu_seconds`` likewise."""
        return time.perf_counter() - self._started

    @property
    def cpu_seconds(self) -> float:
        return time.process_time() - self._started_cpu

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Count the time in the context as training or evaluation."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.working_seconds += time.perf_counter() - started

    def earlier(self) -> list[Path]:
        """Return the folders of the run's earlier attempts, newest first."""
        numbers = range(self._lease.number - 1, 0, -1)
        return [path for number in numbers if (path := self.folder.with_name(f"{number:04d}")).is_dir()]

    def resume_from(self, rows: list[dict[str, Any]], *, seconds: float, cpu_seconds: float) -> None:
        """Start with the rows of an earlier attempt, and with the time that they took."""
        self.write_rows(rows)
        self._started -= seconds
        self._started_cpu -= cpu_seconds

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        self._code = str(manifest.get("code", ""))
        write_json(self.folder / "manifest.json", manifest)

    def mark_progress(self) -> None:
        """Record that this attempt has saved a checkpoint or a part of its evaluation."""
        (self.folder / PROGRESS).touch()

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        """Append metric rows, each with ``step``, ``samples``, ``train_flops``, ``seconds`` and named values.

        Raises:
            LeaseLostError: another process has acquired the run; checked at most every FLUSH_SECONDS.
        """
        self._rows.writelines(json.dumps(row) + "\n" for row in rows)
        if time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        self._lease.check()  # here, so that a run stops soon, not after hours
        self._rows.flush()
        self._flushed_at = time.monotonic()

    def write_bad(self, samples: Iterable[Mapping[str, Any]]) -> None:
        """Append bad samples to the attempt's list, which ends after MAX_BAD lines."""
        with (self.folder / BAD).open("a") as stream:
            for sample in samples:
                if self._num_bad < MAX_BAD:
                    stream.write(json.dumps(sample) + "\n")
                self._num_bad += 1

    def sync_rows(self) -> None:
        """Wait until the rows so far are on disk. Raises LeaseLostError as ``write_rows`` does, but checks now."""
        self._flush()
        os.fsync(self._rows.fileno())

    def publish(self, metrics: Mapping[str, Metric], **more: Any) -> None:
        """Publish the run's one and final result, and the items of its metrics if they have any.

        Raises:
            LeaseLostError: as ``write_rows``.
        """
        import pandas as pd

        self._flush()
        rows = read_rows(self.folder)
        items = {name: metric.items for name, metric in metrics.items() if metric.items is not None}
        if items:
            table(items).to_parquet(self.folder / ITEMS, compression="zstd")
        pd.DataFrame(rows, columns=None if rows else ["step", "samples"]).to_parquet(self.folder / "metrics.parquet")
        write_json(
            self.folder / "result.json",
            {
                "layout_version": LAYOUT_VERSION,
                "signature": self.run.name,
                "attempt": self._lease.number,
                "metrics": {name: metric.to_json() for name, metric in metrics.items()},
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
        own, published = self.folder / "result.json", self.run.path / "result.json"
        try:
            os.link(own, published)  # fails if there is a result
        except FileExistsError as error:
            if not own.samefile(published):  # NFS may repeat a link that was made
                raise LeaseLostError(self.folder) from error
        self._entry = Entry("done", self._lease.number, layout=LAYOUT_VERSION, code=self._code)
        sync(self.run.path)

    def fail(self, failure: Failure, traceback_text: str) -> None:
        self._entry = Entry("failed", self._lease.number, failure.cause)
        write_json(self.folder / "failure.json", asdict(failure) | {"traceback": traceback_text})


def entries(runs_dir: Path, *, repair: bool = False) -> dict[str, Entry]:
    """Return the entry of every run that was tried, also where the index lacks it.

    Entries of deleted run folders are left out; deleting a run's folder is how to repeat it.

    Args:
        repair: write what the index lacks, and remove what it should not have.
    """
    found = index.read(runs_dir)
    there = {name for name in os.listdir(runs_dir) if RUN_NAME.fullmatch(name)} if runs_dir.is_dir() else set()
    for name in found.keys() - there:
        entry = found.pop(name)
        if repair:
            index.remove(runs_dir, name, entry)
    for name in there - found.keys():
        run = RunFolder(runs_dir, name)
        if (new := run.entry()) is not None:
            found[name] = new
            if repair:
                run.write_entry(new)
    return found


class Unrecorded:
    """Stands in for an attempt on ranks other than 0, because only rank 0 records the run."""

    @property
    def seconds(self) -> float:
        return time.perf_counter()

    @property
    def cpu_seconds(self) -> float:
        return time.process_time()

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        pass

    def write_bad(self, samples: Iterable[Mapping[str, Any]]) -> None:
        pass
