"""The trials of a search: files in its folder, to which several workers, also on several hosts, add without a lock.

``0003.json`` is a trial as it was drawn, and ``0003-end.json`` as it ended. Both are created once and never change:
only one process can create the file of a number, and the others then draw again with that trial in view. So the number
of trials is exact, and no point is drawn twice. A trial is running until its run is over, which its lease says.
"""

import contextlib
import json
import math
import os
import random
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from aimv2.ablations.expand import Cell
from aimv2.ablations.searches import FOLDER, State
from aimv2.ablations.study import WINNER
from aimv2.base.errors import UsageError
from aimv2.base.files import create_json, read_json, read_object, write_json
from aimv2.config.arguments import checked
from aimv2.config.program import Program
from aimv2.config.run_config import RunConfig
from aimv2.runs import index
from aimv2.runs.record import RUN_NAME, RunFolder
from aimv2.sweeps.plan import Task, Trials
from aimv2.sweeps.search.space import ARM as ARM_KEY
from aimv2.sweeps.search.space import Point, Search

if TYPE_CHECKING:  # displays read trials, and Optuna takes a second to load
    import optuna

ARM = "trial"  # of cells
DEFINITION, WINNERS = "search.json", "winners.json"  # files; the latter has the runs that confirm the winner
DRAWN, ENDED = "", "-end"
FILE = re.compile(rf"(\d{{4,}})({ENDED})?\.json")
MAX_FAILED = 5  # trials of a search, after which no other one is drawn
# Draws of the sampler for a point that is possible and new. If points can be listed, the first is enough: one of those
# that are left is then drawn at random.
DRAWS, MAX_DRAWS = 20, 200
OPTUNA_STATES = {"finished": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL", "running": "RUNNING"}


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Trial:
    """A point of the space, and its run."""

    number: NonNegativeInt
    run: Annotated[str, Field(pattern=RUN_NAME)]
    params: dict[str, float | str]
    after: NonNegativeInt  # number of the latest attempt at the run when the point was drawn
    # What Optuna's sampler keeps about this trial, and about all so far.
    attributes: dict[str, Any] = field(default_factory=dict)
    study_attributes: dict[str, Any] = field(default_factory=dict)
    curve: dict[PositiveInt, float] = field(default_factory=dict)  # of older searches, as is the next one
    kept: str = ""
    state: State = "running"
    values: tuple[float, ...] = ()  # of the metric; empty unless it is finished
    note: str = ""  # why it has none; empty if that needs no reason
    spent: dict[str, float] = field(default_factory=dict)  # samples, training FLOPs and seconds


def folder_of(runs_dir: Path, name: str) -> Path:
    return runs_dir / FOLDER / name


def file_of(folder: Path, number: int, kind: str) -> Path:
    return folder / f"{number:04d}{kind}.json"


def read_trials(folder: Path) -> list[Trial]:
    """Return the trials of a search by number, none if there is no folder; a UsageError if a file is lost or broken."""
    names = set(os.listdir(folder)) if folder.exists() else set()
    last = max((int(match[1]) for match in map(FILE.fullmatch, names) if match), default=-1)
    ended = (file_of(folder, number, ENDED) for number in range(last + 1))
    return [
        _parsed(path if path.name in names else file_of(folder, number, DRAWN), number)
        for number, path in enumerate(ended)
    ]


def _parsed(path: Path, number: int) -> Trial:
    try:
        trial: Trial = checked(str(path), Trial, read_object(path) | {"number": number})
        if (trial.state == "running") == path.stem.endswith(ENDED):
            raise UsageError(f"{path} has a trial that is {trial.state}")
    except UsageError as error:
        raise UsageError(f"{error}; restore the file, or move {path.parent} away to search again") from error
    return trial


def in_state(trials: Iterable[Trial], *states: State) -> list[Trial]:
    return [trial for trial in trials if trial.state in states]


def trials_of(runs_dir: Path, name: str) -> Trials:
    """Return the trials of the search with this name, which may not exist, for displays."""
    folder = folder_of(runs_dir, name)
    trials, winners, cells = read_trials(folder), read_winners(folder), []
    numbers = {trial.run: trial.number for trial in in_state(trials, "finished", "running")}
    for run in [*numbers, *winners]:
        with contextlib.suppress(UsageError):  # it has not started yet
            config = RunConfig.from_dict(read_json(runs_dir / run / "config.json"))
            cells.append(Cell(arm=ARM if run in numbers else WINNER, seed=numbers.get(run, config.seed), config=config))
    count = Counter(trial.state for trial in trials)
    each = ", ".join(f"{count[state]} {state}" for state in get_args(State) if count[state])
    return Trials(each, cells, count["failed"], frozenset([*(trial.run for trial in trials), *winners]))


def read_winners(folder: Path) -> list[str]:
    """Return the names of the runs that confirm the winner of a search, as far as they are known."""
    path = folder / WINNERS
    runs: list[str] = checked(str(path), list[str], read_json(path)) if path.exists() else []
    return runs


def draw(search: Search, study: "optuna.Study", used: Collection[str]) -> tuple[Point, Program]:
    """Return the point of the next trial of a study, and its run: none of those used, whatever the sampler repeats.

    The baseline's point comes first. Each draw has a new sampler with its own seed. A UsageError if the sampler draws
    nothing but points that cannot exist.
    """
    from optuna.trial import TrialState, create_trial

    study.add_trial(create_trial(state=TrialState.RUNNING))
    trial = study.trials[-1]
    if search.baseline is not None and (run := search.run(search.baseline)).name not in used:
        return search.baseline, run
    seed = random.Random(f"{search.config.seed} {trial.number}").randrange(2**32)
    sampler = search.config.sampler_of(seed)
    num_draws = MAX_DRAWS if search.points is None else DRAWS
    for _ in range(num_draws):
        point = search.drawn(study, sampler, trial)
        with contextlib.suppress(UsageError):  # a combination that is impossible
            run = search.run(point)
            if run.name not in used:
                return point, run
    if search.points is None:
        raise UsageError(f"{num_draws} points in a row are impossible or were tried, the last one {point}")
    point = search.points[random.Random(seed).choice([name for name in search.points if name not in used])]
    return point, search.run(point)


class SearchFolder:
    """The folder of a search: draws its trials, and records how they end; only in memory if ``is_read_only``.

    ``failed_before`` are numbers of the trials that had failed when the launch began. They do not end it, and their
    points can be drawn again.
    """

    def __init__(
        self, search: Search, runs_dir: Path, *, failed_before: Collection[int] = (), is_read_only: bool = False
    ) -> None:
        import optuna

        self.failed_before = frozenset(failed_before)
        self.search = search
        self.runs_dir = runs_dir
        self.path = folder_of(runs_dir, search.name)
        self._is_read_only = is_read_only
        self._ended: dict[int, Trial] = {}  # by this process; a listing may be out of date
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._check_definition()

    @property
    def trials(self) -> list[Trial]:
        return [self._ended.get(trial.number, trial) for trial in read_trials(self.path)]

    def winner(self, trials: Sequence[Trial]) -> Trial | None:
        """Return the best finished trial, the first of equal ones; None if no trial has finished."""
        sign, finished = self.search.goal.sign, in_state(trials, "finished")
        best = min(finished, key=lambda trial: (sign * trial.values[0], trial.number), default=None)
        if best is not None:
            self.task(best)  # its point must be one of the space
        return best

    def study(
        self, trials: Sequence[Trial], storage: "optuna.storages.InMemoryStorage | None" = None
    ) -> "optuna.Study":
        """Return the trials as Optuna sees them."""
        import optuna

        storage = storage or optuna.storages.InMemoryStorage()
        study = optuna.create_study(storage=storage, direction=self.search.goal.direction)
        for trial in trials:
            try:
                study.add_trial(
                    optuna.trial.create_trial(
                        state=optuna.trial.TrialState[OPTUNA_STATES[trial.state]],
                        values=trial.values or None,
                        params=trial.params,
                        distributions=self.search.distributions,
                        system_attrs=trial.attributes,
                    )
                )
            except ValueError as error:
                raise self._corrupt(trial, error) from error
        for key, value in trials[-1].study_attributes.items() if trials else ():
            storage.set_study_system_attr(study._study_id, key, value)
        return study

    def num_new(self, trials: Sequence[Trial]) -> int:
        """Return how many trials can still be drawn."""
        num_trials = self.search.config.trials
        failed = {trial.number for trial in in_state(trials, "failed")}
        if len(failed - self.failed_before) >= MAX_FAILED:
            return 0
        left = num_trials - len(trials) + len(failed)
        return max(min(left, int(min(self.search.num_points - len(self._used(trials)), num_trials))), 0)

    def ask(self) -> Task | None:
        """Draw a trial and return its run; None if there are enough."""
        import optuna

        while self.num_new(trials := self.trials):
            storage, number = optuna.storages.InMemoryStorage(), len(trials)
            study = self.study(trials, storage)
            point, config = draw(self.search, study, self._used(trials))
            trial = Trial(
                number=number,
                run=config.name,
                params=dict(point),
                after=RunFolder(self.runs_dir, config.name).num_attempts,
                attributes=study.get_trials(deepcopy=False)[number].system_attrs,
                study_attributes=storage.get_study_system_attrs(study._study_id),
            )
            if create_json(file_of(self.path, number, DRAWN), asdict(trial)):
                return Task(trial.run, config, trial.after, number)
        return None

    def task(self, trial: Trial) -> Task:
        """Return the run of a trial; raises UsageError if it is not that of its point."""
        try:
            config = self.search.run(trial.params)
        except (KeyError, TypeError, ValueError) as error:
            raise self._corrupt(trial, error) from error
        if config.name != trial.run:
            raise self._corrupt(trial, "its run is not that of its point")
        return Task(trial.run, config, trial.after, trial.number)

    def settle(self, over: Collection[str]) -> None:
        """Record how the trials of these runs have ended."""
        entries = index.read(self.runs_dir)
        for trial in in_state(self.trials, "running"):
            if trial.run in over:
                self.end(self._over(trial, trial.run in entries and entries[trial.run].state == "done"))

    def end(self, trial: Trial) -> None:
        """Record how a trial ended. If another process did, nothing changes."""
        if self._is_read_only or create_json(file_of(self.path, trial.number, ENDED), asdict(trial)):
            self._ended[trial.number] = trial

    def show_winners(self, runs: list[str]) -> None:
        """Record the runs that confirm the winner, for displays."""
        if not self._is_read_only and read_winners(self.path) != runs:
            write_json(self.path / WINNERS, runs)

    def _over(self, trial: Trial, is_done: bool) -> Trial:
        """Return a trial with what its run has recorded; one that diverged counts as pruned, since that is a result."""
        run = RunFolder(self.runs_dir, trial.run)
        if (is_done or run.is_done) and (problem := run.problem()):
            return replace(trial, state="failed", note=problem)
        rows = run.rows()
        trial = replace(trial, spent=_spent(rows))
        if not run.is_done:
            failure = run.failure()
            has_diverged = failure is not None and failure.cause == "not finite"
            note = "" if failure is None else f"{failure.cause}: {failure.message}"
            return replace(trial, state="pruned" if has_diverged else "failed", note=note)
        result = run.result()
        trial = replace(trial, spent=trial.spent | {"seconds": result["seconds"]})  # with those of the evaluation
        value = result["metrics"].get(self.search.metric, {}).get("value")
        if value is None or math.isnan(value):
            return replace(trial, state="failed", note=f"its run has no {self.search.metric}")
        return replace(trial, state="finished", values=(value,))

    def _used(self, trials: Sequence[Trial]) -> set[str]:
        """Return the names of the runs that no further trial can have."""
        return {trial.run for trial in trials if trial.number not in self.failed_before}

    def _check_definition(self) -> None:
        """Write the definition of a new search; refuse one that differs from that of the folder."""
        path, new = self.path / DEFINITION, self.search.definition()
        if not (self._is_read_only or path.exists()):
            self.path.mkdir(parents=True, exist_ok=True)
            create_json(path, new)
        old = read_object(path) if path.exists() else new
        if differ := [key for key in {**old, **new} if old.get(key) != new.get(key)]:
            shown = [key for key in differ if not key.startswith(ARM_KEY)] or differ  # another base changes all arms
            changed = (f"{key} was {json.dumps(old.get(key))} and is {json.dumps(new.get(key))}" for key in shown)
            raise UsageError(
                f"{self.path} is of another search: {'; '.join(changed)}. Give this one a name of its own with"
                " sweep.suffix=, or move the folder away"
            )

    def _corrupt(self, trial: Trial, why: object) -> UsageError:
        return UsageError(f"trial {trial.number} in {self.path} is corrupt: {why}")


def _spent(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return what a run has cost by its rows."""
    last = rows[-1] if rows else {}
    return {"samples": last.get("samples", 0), "flops": last.get("train_flops", 0), "seconds": last.get("seconds", 0.0)}
