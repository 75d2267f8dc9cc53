"""The journal of a search: its trials, in Optuna's storage, on plain files.

Several workers, also on several hosts, draw trials and record their results at the same time. A trial is drawn under a
lock, so that their number is exact and no point is drawn twice; everything else is a single line of the journal. A
trial is RUNNING until its run is over: the lease of the run, and not the journal, says whether a process works on it.
"""

import contextlib
import errno
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from aimv2.base.errors import UsageError
from aimv2.config.run_config import RunConfig
from aimv2.config.signature import signature
from aimv2.runs import index
from aimv2.runs.index import Entry
from aimv2.runs.record import RunFolder
from sweeps.search.config import AFTER, DEFINITION, MAX_FAILED, NOTE, RUN, SPENT, WINNERS, journal_path
from sweeps.search.draw import draw
from sweeps.search.optimizers import pruner_of
from sweeps.search.space import Search
from sweeps.tasks import Task

# After so long without a change, the lock of a killed process is broken. Drawing a point takes far less than the first,
# also if it has to break the second, which is held while a line is written.
ASK_SECONDS, LINE_SECONDS = 60, 20
OPEN, ENDED = (TrialState.RUNNING,), (TrialState.COMPLETE, TrialState.PRUNED)


class Ending(NamedTuple):
    """How a trial ended.

    Attributes:
        values: of the metrics; None unless it is complete.
        note: why it has none; empty if that needs no reason.
        cost: the samples, training FLOPs and seconds that its run has cost.
        curve: values by the number of the point, in the direction of the first metric.
    """

    state: TrialState
    values: Sequence[float] | None = None
    note: str = ""
    cost: Mapping[str, float] = MappingProxyType({})
    curve: Mapping[int, float] = MappingProxyType({})


class JournalFile(JournalFileBackend):
    """As Optuna's, except that a line which a full disk or a kill has cut off is removed before the next is written."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._lock.acquire()
        try:
            with Path(self._file_path).open("a+b", buffering=0) as file:
                self._remove_cut_line(file)
                lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
                if file.write(lines) != len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file_path)
                os.fsync(file.fileno())
        finally:
            self._lock.release()

    def _remove_cut_line(self, file: IO[bytes]) -> None:
        if (size := file.seek(0, os.SEEK_END)) and (file.seek(size - 1), file.read(1))[1] != b"\n":
            file.seek(0)
            end = file.read(size).rfind(b"\n") + 1
            if file.seek(0, os.SEEK_END) == size:  # else another process took this one, and its lock, for dead
                file.truncate(end)


class Journal:
    """The trials of a search.

    Args:
        failed_before: numbers of the trials that had failed when the launch began. They do not end it, and their points
            can be drawn again.
        is_read_only: True opens a journal that exists, and changes nothing.
        ask_seconds: after which the lock on asking is broken.

    Raises:
        UsageError: the journal is corrupt, or is that of another search.
    """

    def __init__(
        self,
        search: Search,
        runs_dir: Path,
        *,
        failed_before: Collection[int] = (),
        is_read_only: bool = False,
        ask_seconds: int = ASK_SECONDS,
    ) -> None:
        self.failed_before = frozenset(failed_before)
        self._is_read_only = is_read_only
        self.search = search
        self.runs_dir = runs_dir
        self.path = journal_path(runs_dir, search.name)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if not is_read_only:
            self.path.parent.mkdir(exist_ok=True)
        self._lock = JournalFileOpenLock(str(self.path.with_suffix(".ask")), grace_period=ask_seconds)
        num_points = len(search.base.curve_steps) - 1
        pruner = pruner_of(search.pruner, search.config.pruner_args, num_points, search.noise)
        with readable(self.path), nullcontext() if is_read_only else self._locked():
            self._storage = open_storage(self.path)
            opened: dict[str, Any] = {
                "study_name": search.name,
                "storage": self._storage,
                "sampler": optuna.samplers.RandomSampler(),  # a point is drawn by ``draw``
                "pruner": pruner,
            }
            if is_read_only:
                self.study = optuna.load_study(**opened)
            else:
                self.study = optuna.create_study(**opened, directions=search.directions, load_if_exists=True)
            self._check_definition()
            self._study_id = self._storage.get_study_id_from_name(search.name)

    @property
    def trials(self) -> list[FrozenTrial]:
        with readable(self.path):
            return self.study.get_trials(deepcopy=False)

    @property
    def front(self) -> list[FrozenTrial]:
        """The finished trials that no other one dominates, in the order of their numbers; with one metric, the best."""
        with readable(self.path):
            return sorted(self.study.best_trials, key=lambda trial: trial.number)

    def num_new(self, trials: Sequence[FrozenTrial]) -> int:
        """Return how many trials can still be drawn, those that no worker has completed the drawing of included."""
        config = self.search.config
        if len(failed(trials) - self.failed_before) >= MAX_FAILED:
            return 0
        left = config.trials - sum(trial.state in OPEN + ENDED and not _is_half_drawn(trial) for trial in trials)
        return max(min(left, int(min(self.search.num_points - len(self._used(trials)), config.trials))), 0)

    def ask(self) -> Task | None:
        """Draw a trial and return its run; None if there are enough."""
        with self._locked():
            trials = self.trials
            if not self.num_new(trials):
                return None
            with readable(self.path):
                trial = next(filter(_is_half_drawn, trials), None) or self._new_trial()
            try:
                point, config = draw(self.search, self.study, trial, self._used(trials))
            except UsageError as error:
                self.tell(trial, Ending(TrialState.FAIL, note=str(error)))
                raise
            name = signature(config)
            task = Task(name, config, RunFolder(self.runs_dir, name).num_attempts, trial.number)
            with readable(self.path):
                trial_id = self._id(trial.number)
                for factor, distribution in self.search.distributions.items():
                    internal = distribution.to_internal_repr(point[factor])
                    self._storage.set_trial_param(trial_id, factor, internal, distribution)
                for key, value in ((AFTER, task.after), (RUN, task.name)):  # the latter completes it
                    self._storage.set_trial_user_attr(trial_id, key, value)
            return task

    def drop_half_drawn(self) -> None:
        """Record that trials whose worker died while it drew have failed; for a search that needs no further trial."""
        with self._locked():
            for trial in filter(_is_half_drawn, self.trials):
                self.tell(trial, Ending(TrialState.FAIL, note="its worker died while it drew the point"))

    def tasks(self, trials: Sequence[FrozenTrial]) -> list[Task]:
        """Return the runs of the trials that are not over."""
        drawn = [trial for trial in trials if trial.state in OPEN and RUN in trial.user_attrs]
        return [
            Task(trial.user_attrs[RUN], self.config_of(trial), trial.user_attrs[AFTER], trial.number) for trial in drawn
        ]

    def config_of(self, trial: FrozenTrial) -> RunConfig:
        return self.search.run(trial.params)

    def settle(self) -> list[FrozenTrial]:
        """Record the results of the trials whose runs are over, and return all trials."""
        trials = self.trials
        open_tasks = self.tasks(trials)
        if not open_tasks or self._is_read_only:
            return trials
        entries = index.read(self.runs_dir)
        for task in open_tasks:
            entry = entries.get(task.name)
            if entry is not None and (ending := self._ending(task, entry)) is not None:
                self.tell(trials[task.trial or 0], ending)
        return self.trials

    def give_up(self, trial: FrozenTrial) -> None:
        """Record that the run of a trial has failed, because its workers died repeatedly."""
        self.tell(trial, _failed_ending(RunFolder(self.runs_dir, trial.user_attrs[RUN])))

    def tell(self, trial: FrozenTrial, ending: Ending) -> None:
        """Record how a trial ended. If another process did, nothing changes."""
        storage, trial_id = self._storage, self._id(trial.number)
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError), readable(self.path):
            for number, value in ending.curve.items():  # a follower has told the others
                if number not in trial.intermediate_values:
                    storage.set_trial_intermediate_value(trial_id, number, value)
            storage.set_trial_user_attr(trial_id, SPENT, dict(ending.cost))
            if ending.note:
                storage.set_trial_user_attr(trial_id, NOTE, ending.note)
            storage.set_trial_state_values(trial_id, ending.state, ending.values)

    def show_winners(self, runs: list[str]) -> None:
        """Record the runs that confirm the winner, for displays."""
        with readable(self.path):
            if not self._is_read_only and self.study.user_attrs.get(WINNERS, []) != runs:
                self.study.set_user_attr(WINNERS, runs)

    def trial(self, number: int) -> Trial:
        with readable(self.path):
            return Trial(self.study, self._id(number))

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _ending(self, task: Task, entry: Entry) -> Ending | None:
        """Return how a trial ended, as its run records it; None if it is not over."""
        run, search = RunFolder(self.runs_dir, task.name), self.search
        if entry.state != "done":
            is_over = entry.state != "running" and task.is_over(entry, self.runs_dir)
            return _failed_ending(run) if is_over else None
        if problem := run.problem():
            return Ending(TrialState.FAIL, note=problem)
        result, rows = run.result(), run.rows()
        cost = _spent(rows, result["seconds"])
        measured = {name: one["value"] for name, one in result["metrics"].items()}
        values = {name: measured.get(name, result.get(name)) for name in search.metrics}  # a cost is no metric
        if None in values.values():
            missing = [name for name, value in values.items() if value is None]
            return Ending(TrialState.FAIL, note=f"its run has no {', '.join(missing)}", cost=cost)
        curve = {}
        if search.curve is not None and len(search.metrics) == 1:
            places = {step: number for number, step in enumerate(task.config.curve_steps) if number}
            found = {row["step"]: row[search.curve] for row in rows if row.get(search.curve) is not None}
            curve = {number: search.sign * found[step] for step, number in places.items() if step in found}
        return Ending(TrialState.COMPLETE, [float(value or 0.0) for value in values.values()], cost=cost, curve=curve)

    def _used(self, trials: Sequence[FrozenTrial]) -> set[str]:
        """Return the names of the runs that no further trial can have."""
        return {
            trial.user_attrs[RUN]
            for trial in trials
            if RUN in trial.user_attrs and trial.number not in self.failed_before
        }

    def _new_trial(self) -> FrozenTrial:
        number = self.study.ask().number
        return self.study.get_trials(deepcopy=False)[number]

    def _check_definition(self) -> None:
        """Keep the definition of a new search; refuse one that differs from that of the journal."""
        new, old = self.search.definition(), self.study.user_attrs.get(DEFINITION)
        if old is None:
            self.study.set_user_attr(DEFINITION, new)
        elif changed := _changes(old, new):
            raise UsageError(
                f"{self.path} is of another search: {'; '.join(changed)}. Give this one a name of its own with"
                " sweep.suffix=, or move the journal away"
            )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._lock.acquire()
        try:
            yield
        finally:
            with contextlib.suppress(RuntimeError):  # another process has broken it
                self._lock.release()


def open_storage(path: Path, *, line_seconds: int = LINE_SECONDS) -> JournalStorage:
    """Open the file at a path; the lock on writing a line is broken after ``line_seconds``."""
    # Optuna's default is a symbolic link, which dangles if the path is relative: its age is unknown then, so that of a
    # killed process would never be broken.
    return JournalStorage(JournalFile(str(path), JournalFileOpenLock(str(path), grace_period=line_seconds)))


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what Optuna raises on a broken journal into one sentence."""
    try:
        yield
    except (UsageError, optuna.exceptions.UpdateFinishedTrialError):
        raise
    except (ValueError, KeyError, TypeError, AssertionError, IndexError) as error:
        raise UsageError(
            f"{path} is not a journal of Optuna, or it is corrupt ({error}); restore it, or move it away to search"
            " again"
        ) from error


def _failed_ending(run: RunFolder) -> Ending:
    """Return the ending of a trial whose run has failed; one that diverged counts as pruned, since that is a result."""
    failure, rows = run.failure(), run.rows()
    has_diverged = failure is not None and failure.cause == "not finite"
    note = "" if failure is None else f"{failure.cause}: {failure.message}"
    return Ending(TrialState.PRUNED if has_diverged else TrialState.FAIL, None, note, _spent(rows))


def _spent(rows: Sequence[Mapping[str, Any]], seconds: float | None = None) -> dict[str, float]:
    """Return what a run has cost by its rows; ``seconds`` are those of a finished run, which include evaluation."""
    last = rows[-1] if rows else {}
    seconds = last.get("seconds", 0.0) if seconds is None else seconds
    return {"samples": last.get("samples", 0), "flops": last.get("train_flops", 0), "seconds": seconds}


def failed(trials: Sequence[FrozenTrial]) -> set[int]:
    return {trial.number for trial in trials if trial.state == TrialState.FAIL}


def _is_half_drawn(trial: FrozenTrial) -> bool:
    """True if the worker of a trial died after it had made it, and before it had drawn its point."""
    return trial.state in OPEN and RUN not in trial.user_attrs


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return what differs between two definitions, a phrase each."""
    bases = [dict(one.get("base run") or {}) for one in (old, new)]
    values = [bases[0] | _plain(old), bases[1] | _plain(new)]
    found = [
        f"{key} was {json.dumps(values[0].get(key))} and is {json.dumps(values[1].get(key))}"
        for key in dict.fromkeys([*values[0], *values[1]])
        if values[0].get(key) != values[1].get(key)
    ]
    arms = [name for name, run in new["arms"].items() if old.get("arms", {}).get(name) != run]
    return found or ([f"its arms have changed: {', '.join(arms)}"] if arms else [])


def _plain(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in definition.items() if key not in ("base run", "arms")}
