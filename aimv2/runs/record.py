"""The record of a run, whose layout is an interface (docs/architecture.md), and what its attempts took."""

import contextlib
import os
import re
from collections.abc import Iterator
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, read_object
from aimv2.config.program import Program
from aimv2.runs import index
from aimv2.runs.attempt import LAYOUT_VERSION, PROGRESS, Attempt
from aimv2.runs.failure import Failure, read_failure
from aimv2.runs.index import Entry
from aimv2.runs.lease import (
    HEARTBEAT_SECONDS,
    Sight,
    Watch,
    acquire,
    attempt_folder,
    is_held,
    is_released,
    latest_attempt,
)
from aimv2.runs.rows import read_rows

if TYPE_CHECKING:
    import pandas as pd

RUN_NAME = re.compile(r"v\d+-[0-9a-f]{12}")
MAX_STALLED = 3  # attempts in a row without progress, after which a launch gives a run up

State = Literal["new", "running", "failed", "done"]
Outcome = Literal["result", "failed", "superseded"]

OWN = ("holder.json", "heartbeat", "released")  # what an attempt writes first and last


class RunFolder:
    """The folder of one run, to read at any time and to acquire the run."""

    def __init__(self, runs_dir: Path, name: str) -> None:
        self.name = name
        self.path = runs_dir / name

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
        if is_held(attempt):
            return "running"
        has_failed = (attempt / "failure.json").exists() or self.num_stalled() == MAX_STALLED
        return "failed" if has_failed else "new"

    def entry(self) -> Entry | None:
        """Return the entry that the index should have for this run; None if there was no attempt."""
        if self.is_done:
            with contextlib.suppress(UsageError, KeyError, TypeError, ValueError):
                result = read_json(self.path / "result.json")
                done = Entry("done", int(result["attempt"]), layout=int(result["layout_version"]))
                manifest = read_json(attempt_folder(self.path, done.attempt) / "manifest.json")
                return done._replace(code=str(manifest["code"]))
            return Entry("done", self.num_attempts)
        attempt = latest_attempt(self.path)
        if attempt is None:
            return None
        if (attempt / "failure.json").exists():
            return Entry("failed", int(attempt.name), read_failure(attempt).cause)
        return Entry("idle" if is_released(attempt) else "running", int(attempt.name))

    def sight(self, watch: Watch) -> Sight:
        """Return whether the process that made the latest attempt is alive."""
        attempt = latest_attempt(self.path)
        return "dead" if attempt is None else watch.sees(attempt)

    @property
    def num_attempts(self) -> int:
        attempt = latest_attempt(self.path)
        return 0 if attempt is None else int(attempt.name)

    def num_stalled(self, after: int = 0) -> int:
        """Return how many of the latest attempts in a row made no progress: no checkpoint, no part of the evaluation.
        Attempts up to number ``after`` do not count; MAX_STALLED is the largest result."""
        numbers = range(self.num_attempts, after, -1)
        marks = (attempt_folder(self.path, number) / PROGRESS for number in numbers)
        stalled = takewhile(lambda mark: not mark.exists(), marks)
        return len(list(islice(stalled, MAX_STALLED)))

    def acquire(
        self, config: Program, *, log: str = "", watch: Watch | None = None, beat_seconds: float = HEARTBEAT_SECONDS
    ) -> Attempt | None:
        """Acquire the run, or return None if it is done or another process may hold it; arguments as ``lease.acquire``.
        Raises UsageError if the folder cannot be written."""
        assert config.name == self.name, f"{self.name} is not the name of this config"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lease = None if self.is_done else acquire(self.path, log=log, watch=watch, beat_seconds=beat_seconds)
            if lease is not None and self.is_done:  # published after the first check
                lease.release()
                lease = None
            if lease is None:
                if (entry := self.entry()) is not None:  # the index did not know
                    index.write(self.path.parent, self.name, entry)
                return None
            index.write(self.path.parent, self.name, Entry("running", lease.number), has_no_result=True)
        except OSError as error:
            raise UsageError(f"the run folder {self.path} cannot be written: {error.strerror}") from error
        return Attempt(lease, config)

    def result(self) -> dict[str, Any]:
        """Return the result; its ``metrics`` map each name to value, unit, evaluation and warning. Raises UsageError if
        the file is missing or broken, or has another layout."""
        result = self._recorded()
        if result is None:
            raise UsageError(self.problem())
        if result["layout_version"] != LAYOUT_VERSION:
            raise UsageError(
                f"{self.path} has layout {result['layout_version']} and this version reads layout {LAYOUT_VERSION}; use"
                " the version that wrote it, or another runs_dir"
            )
        return result

    def problem(self) -> str:
        """Return that the file of the result is missing or broken, in a sentence; empty if it is not."""
        if self._recorded() is not None:
            return ""
        return f"{self.path / 'result.json'} is not the result of a run; delete {self.path} to repeat the run"

    def obstacle(self) -> str:
        """Return that nothing can be recorded in the run's folder, in a sentence; empty if it can."""
        is_usable = self.path.is_dir() and os.access(self.path, os.W_OK | os.X_OK)
        if is_usable or not os.path.lexists(self.path):
            return ""
        return f"{self.path} is no folder that can be written; remove it or change its permissions"

    def _recorded(self) -> dict[str, Any] | None:
        with contextlib.suppress(UsageError):
            result = read_object(self.path / "result.json")
            if {"attempt", "metrics", "layout_version"} <= result.keys():
                return result
        return None

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
            return Failure("time", "the run was interrupted; the next attempt of the same code resumes it")
        return Failure("node", "the process ended without recording a reason (killed, or out of memory)")

    def file(self, name: str) -> Path:
        """Return the path of a file of the attempt that made the result."""
        return attempt_folder(self.path, self.result()["attempt"]) / name

    def metrics(self) -> "pd.DataFrame":
        """Return a row per step: ``step``, ``samples``, ``train_flops``, ``seconds``, and the metrics of that step."""
        import pandas as pd  # here, because loading it takes longer than listing a thousand runs

        path = self.file("metrics.parquet")
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read; delete {self.path} to repeat the run") from error

    def rows(self) -> list[dict[str, Any]]:
        """Return the metric rows of the attempt that made the result, or else of the latest one; none if they are
        missing or broken."""
        attempt = self.file("") if self.is_done else latest_attempt(self.path)
        with contextlib.suppress(FileNotFoundError, ValueError):
            return [] if attempt is None else read_rows(attempt)
        return []


def entries(runs_dir: Path, *, repair: bool = False) -> dict[str, Entry]:
    """Return the entry of every run that was tried, also where the index lacks it, without deleted run folders;
    ``repair`` compares every entry with the run's folder, and corrects the index."""
    listed = index.read(runs_dir)
    names = [name for name in os.listdir(runs_dir) if RUN_NAME.fullmatch(name)] if runs_dir.is_dir() else []
    runs = {name: RunFolder(runs_dir, name) for name in names}
    # Whether an entry is right, only the run's folder tells, unless it is that of a finished run.
    right = {
        name: listed[name]
        for name, run in runs.items()
        if name in listed and (not repair or (listed[name].state == "done" and run.is_done))
    }
    right |= {name: entry for name in runs.keys() - right.keys() if (entry := runs[name].entry()) is not None}
    if repair:
        for name, entry in right.items() - listed.items():
            index.add(runs_dir, name, entry)
        for name, entry in listed.items() - right.items():
            index.remove(runs_dir, name, entry)
    return right


class Hours(NamedTuple):
    """Hours of GPUs, or of cores of the CPU: those of cores are 0 for runs on a GPU, whose price includes them."""

    gpu: float
    core: float


class Billed(NamedTuple):
    """What an attempt took."""

    outcome: Outcome  # superseded: interrupted or lost, so that a later attempt went on, or still running
    hardware: str  # as its manifest has it, or else that of another attempt at the run; empty if none has it
    seconds: float  # of wall time that it held its resources
    hours: Hours


def hours_of(config: Program, seconds: float) -> Hours:
    """Return the hours of so many seconds of a run: of its ranks, or of their threads and given loader processes."""
    hours = config.ranks * seconds / 3600
    if config.device == "cuda":
        return Hours(hours, 0.0)
    return Hours(0.0, hours * (config.threads + (config.loaders or 0)))


def billed(run: Path, config: Program) -> Iterator[Billed]:
    """Yield what every attempt at a run took, in order, by the times of the files that it writes first and last."""
    result = 0
    with contextlib.suppress(UsageError, KeyError, TypeError, ValueError):
        result = int(read_json(run / "result.json")["attempt"])
    folders = sorted((run / "attempts").glob("[0-9]*"))
    known = [_hardware(folder) for folder in folders]
    for number, folder in enumerate(folders):
        times = [path.stat().st_mtime for name in OWN if (path := folder / name).exists()]
        seconds = max(times) - min(times) if times else 0.0
        has_result, has_failed = int(folder.name) == result, (folder / "failure.json").exists()
        yield Billed(
            outcome="result" if has_result else "failed" if has_failed else "superseded",
            hardware=next(filter(None, [*known[number:], *reversed(known[:number])]), ""),
            seconds=seconds,
            hours=hours_of(config, seconds),
        )


def _hardware(attempt: Path) -> str:
    """Return the hardware that an attempt has recorded; empty if it has not."""
    with contextlib.suppress(UsageError, KeyError, TypeError):
        return str(read_json(attempt / "manifest.json")["hardware"])
    return ""


def named_run(runs_dir: Path, typed: str) -> RunFolder:
    """Return the run whose name, or the path of whose folder, begins so; a UsageError unless there is exactly one."""
    found = sorted(path.name for path in runs_dir.glob("v*-*") if path.name.startswith(Path(typed).name))
    if len(found) != 1:
        where = f"in {str(runs_dir)!r} begin with {Path(typed).name!r}"
        raise UsageError(f"{len(found)} runs {where}; name exactly one that a worker has started")
    return RunFolder(runs_dir, found[0])
