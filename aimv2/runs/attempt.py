"""An attempt at a run: what it records, and how its result becomes the run's."""

import contextlib
import json
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from aimv2.base.files import sync, write_json
from aimv2.config.program import Program
from aimv2.definitions.items import table
from aimv2.definitions.metrics import Metric
from aimv2.memory.machine import oom_kills
from aimv2.runs import index
from aimv2.runs.failure import Failure, cause_of, sentence_of
from aimv2.runs.index import Entry
from aimv2.runs.lease import Lease, LeaseLostError, attempt_folder
from aimv2.runs.rows import TensorBoard, read_rows

LAYOUT_VERSION = 2
RESULT = "result.json"
ITEMS = "items.parquet"
BAD = "bad_samples.jsonl"
MAX_BAD = 10_000  # lines of that file; the result has the counts of all
CHECKPOINT = "checkpoint"  # a folder with the newest complete checkpoint, a folder that is named by its step
CHECKPOINT_PARTIAL = ".checkpoint"  # a folder for files until they are complete
PARTS = "evaluation"  # a folder with the finished parts of the evaluation
# What attempts need until their run is done; the last one is a checkpoint of older code.
UNFINISHED = (CHECKPOINT, CHECKPOINT_PARTIAL, PARTS, "checkpoint.safetensors")
PROGRESS = "progress"
FLUSH_SECONDS = 20.0  # rows reach the file, and the lease is checked, at most this often


class Timed:
    """The time that an attempt takes on a rank."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._started_cpu = time.process_time()

    @property
    def seconds(self) -> float:
        """Wall time of the attempt, plus that of the training it resumed from; ``cpu_seconds`` likewise."""
        return time.perf_counter() - self._started

    @property
    def cpu_seconds(self) -> float:
        return time.process_time() - self._started_cpu


class Unrecorded(Timed):
    """Stands in for the attempt on ranks other than 0, because only rank 0 records the run."""

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        pass

    def write_bad(self, samples: Iterable[Mapping[str, Any]]) -> None:
        pass


class Attempt(Timed):
    """One try at a run. As a context: leaving it without ``publish`` or ``fail`` releases the run unfinished."""

    def __init__(self, lease: Lease, config: Program) -> None:
        super().__init__()
        self.folder = lease.folder
        self.run = self.folder.parents[1]  # the run's folder
        self._lease = lease
        self._config = config
        self._rows: Any = None
        self._events = TensorBoard(self.folder, is_on=config.log.tensorboard)
        self._flushed_at = float("-inf")
        self._num_bad = 0
        self.has_progress = False  # if a checkpoint or a part of the evaluation was saved
        self._entry = Entry("idle", lease.number)  # unless it fails or publishes
        self._done = Entry("done", lease.number, layout=LAYOUT_VERSION)

    def __enter__(self) -> Self:
        try:
            write_json(self.run / "config.json", self._config.to_dict())
            self._rows = (self.folder / "metrics.jsonl").open("a")
        except OSError:
            self._lease.release()
            raise
        self._lease.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if self._is_published:
                self._entry = self._done
            try:
                self._rows.close()  # retries the write that a full disk refused
            finally:
                self._events.close()  # before another process resumes, which the index invites to
                with contextlib.suppress(OSError):  # a full disk; these files are for displays
                    if kind is KeyboardInterrupt:
                        (self.folder / "interrupted").touch()
                    if self._is_published or not (self.run / RESULT).exists():
                        index.write(self.run.parent, self.run.name, self._entry)
        finally:
            self._lease.__exit__(kind, *error)

    def earlier(self) -> list[Path]:
        """Return the folders of the run's earlier attempts, newest first."""
        numbers = range(self._lease.number - 1, 0, -1)
        return [path for number in numbers if (path := attempt_folder(self.run, number)).is_dir()]

    def resume_from(self, rows: list[dict[str, Any]], *, seconds: float, cpu_seconds: float) -> None:
        """Start with the rows of an earlier attempt, or of another run's, and with the time that they took."""
        self.write_rows(rows)
        self._started -= seconds
        self._started_cpu -= cpu_seconds

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        self._done = self._done._replace(code=str(manifest.get("code", "")))
        write_json(self.folder / "manifest.json", manifest)

    def check_lease(self) -> None:
        """Raise LeaseLostError if another process has acquired the run; safe in any thread."""
        self._lease.check()

    def mark_progress(self) -> None:
        """Record that this attempt has saved a checkpoint or a part of its evaluation."""
        if not self.has_progress:
            (self.folder / PROGRESS).touch()
        self.has_progress = True

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        """Append metric rows, each with ``step``, ``samples``, ``train_flops``, ``seconds`` and named values. Raises
        LeaseLostError if another process has acquired the run, which is checked at most every FLUSH_SECONDS."""
        self._rows.writelines(json.dumps(row) + "\n" for row in rows)
        self._events.write_rows(rows)
        if time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            self._flush(is_quick=True)

    def _flush(self, *, is_quick: bool = False) -> None:
        self._lease.check(is_quick=is_quick)  # here, so that a run stops soon, not after hours
        self._rows.flush()
        self._events.flush()
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
        """Publish the run's one and final result, and the items of its metrics if they have any. Raises LeaseLostError
        as ``write_rows``."""
        import pandas as pd

        self._flush()
        rows = read_rows(self.folder)
        if items := {name: metric.items for name, metric in metrics.items() if metric.items is not None}:
            table(items).to_parquet(self.folder / ITEMS, compression="zstd")
        pd.DataFrame(rows, columns=None if rows else ["step", "samples"]).to_parquet(self.folder / "metrics.parquet")
        write_json(
            self.folder / RESULT,
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
        try:
            os.link(self.folder / RESULT, self.run / RESULT)  # fails if there is a result
        except FileExistsError as error:
            if not self._is_published:  # NFS may repeat a link that was made
                lost = f"another attempt has published the result of {self.run}"
                raise LeaseLostError("lease lost", lost) from error
        sync(self.run)

    def remove_unfinished(self) -> None:
        """Delete what the attempts of a run need until it is done; the run is done even if that fails."""
        with contextlib.suppress(OSError):
            folders = (self.folder, *self.earlier())
            for path in (path for folder in folders for path in unfinished(folder)):
                shutil.rmtree(path, ignore_errors=True)

    @property
    def _is_published(self) -> bool:
        """True if the run's result is that of this attempt."""
        own, published = self.folder / RESULT, self.run / RESULT
        return own.exists() and published.exists() and own.samefile(published)

    def fail(self, failure: Failure, traceback_text: str) -> None:
        self._entry = Entry("failed", self._lease.number, failure.cause)
        write_json(self.folder / "failure.json", asdict(failure) | {"traceback": traceback_text})


def unfinished(folder: Path) -> list[Path]:
    """Return what an attempt needs until its run is done; one listing tells."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return [folder / name for name in sorted(os.listdir(folder)) if name in UNFINISHED]
    return []


def attempted(attempt: Attempt, work: Callable[[], None]) -> Failure | None:
    """Do the work of an attempt, which publishes the result; record and return its failure.

    An interrupt (KeyboardInterrupt) and a lost lease (LeaseLostError) are raised.
    """
    kills = oom_kills()
    try:
        with attempt:
            try:
                work()
            except LeaseLostError:
                raise
            except Exception as error:
                failure = Failure(cause_of(error, attempt.run, oom_kills=kills), sentence_of(error))
                attempt.fail(failure, traceback.format_exc())
                return failure
    except OSError as error:  # from the attempt's folder: nothing can be recorded there
        return Failure(cause_of(error, attempt.run), sentence_of(error))
    return None
