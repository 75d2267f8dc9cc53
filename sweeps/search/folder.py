"""The folder of a search: draws its trials, and records how they end.

Several workers, also on several hosts, do so at the same time, without a lock. The file system lets only one process
create the file of a number, and the others then draw again with that trial in view. So the number of trials is exact,
and no point is drawn twice. A trial is running until its run is over: the lease of the run says whether a process works
on it.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial

from aimv2.base.errors import UsageError
from aimv2.base.files import create_json, read_object, write_json
from aimv2.config.program import Program
from aimv2.runs import index
from aimv2.runs.record import RunFolder
from aimv2.sweeps.plan import Task
from aimv2.sweeps.search.config import DEFINITION, MAX_FAILED, WINNERS, folder_of
from aimv2.sweeps.search.draw import draw
from aimv2.sweeps.search.optimizers import pruner_of
from aimv2.sweeps.search.space import ARM, Search
from aimv2.sweeps.search.trials import CURVE, DRAWN, ENDED, Trial, file_of, in_state, read_trials, read_winners

STATES = {
    "finished": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "running": TrialState.RUNNING,
}


class SearchFolder:
    """The folder of a search.

    Args:
        failed_before: numbers of the trials that had failed when the launch began. They do not end it, and their points
            can be drawn again.
        is_read_only: True writes nothing: how trials have ended is only remembered.

    Raises:
        UsageError: the folder is that of another search, or older code has written it.
    """

    def __init__(
        self, search: Search, runs_dir: Path, *, failed_before: Collection[int] = (), is_read_only: bool = False
    ) -> None:
        self.failed_before = frozenset(failed_before)
        self.search = search
        self.runs_dir = runs_dir
        self.path = folder_of(runs_dir, search.name)
        self._is_read_only = is_read_only
        self._known: dict[str, Trial] = {}
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._check_definition()

    @property
    def trials(self) -> list[Trial]:
        return read_trials(self.path, self._known)

    def front(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the finished trials that no other one dominates, in the order of their numbers; with one metric, the
        best."""
        return [trials[number] for number in sorted(trial.number for trial in self.study(trials).best_trials)]

    def study(self, trials: Sequence[Trial]) -> optuna.Study:
        """Return the trials as Optuna sees them.

        Raises:
            UsageError: Optuna refuses them.
        """
        # Optuna's Hyperband draws a trial's bracket from the name.
        study = optuna.create_study(study_name=self.search.name, directions=self.search.directions)
        for trial in trials:
            try:
                study.add_trial(
                    create_trial(
                        state=STATES[trial.state],
                        values=trial.values or None,
                        params=trial.params,
                        distributions=self.search.distributions,
                        system_attrs=trial.attributes,
                        intermediate_values=trial.curve,
                    )
                )
            except ValueError as error:
                raise self._corrupt(trial, error) from error
        for name, value in trials[-1].study_attributes.items() if trials else ():
            study._storage.set_study_system_attr(study._study_id, name, value)
        return study

    def num_new(self, trials: Sequence[Trial]) -> int:
        """Return how many trials can still be drawn."""
        config = self.search.config
        failed = {trial.number for trial in in_state(trials, "failed")}
        if len(failed - self.failed_before) >= MAX_FAILED:
            return 0
        left = config.trials - len(trials) + len(failed)
        return max(min(left, int(min(self.search.num_points - len(self._used(trials)), config.trials))), 0)

    def ask(self) -> Task | None:
        """Draw a trial and return its run; None if there are enough."""
        while self.num_new(trials := self.trials):
            study, number = self.study(trials), len(trials)
            point, config = draw(self.search, study, self._used(trials))
            name = config.name
            trial = Trial(
                number=number,
                run=name,
                params=dict(point),
                after=RunFolder(self.runs_dir, name).num_attempts,
                attributes=study.get_trials(deepcopy=False)[number].system_attrs,
                study_attributes=study._storage.get_study_system_attrs(study._study_id),
            )
            if create_json(file_of(self.path, number, DRAWN), asdict(trial)):
                return Task(name, config, trial.after, number)
        return None

    def task(self, trial: Trial) -> Task:
        """Return the run of a trial.

        Raises:
            UsageError: it is not that of its point.
        """
        try:
            config = self.search.run(trial.params)
        except (KeyError, TypeError, ValueError) as error:
            raise self._corrupt(trial, error) from error
        if config.name != trial.run or max(trial.curve, default=0) >= len(config.curve_steps):
            raise self._corrupt(trial, "its run or its curve is not that of its point")
        return Task(trial.run, config, trial.after, trial.number)

    def settle(self, over: Collection[str]) -> None:
        """Record how the trials of these runs have ended."""
        entries = index.read(self.runs_dir)
        for trial in in_state(self.trials, "running"):
            if trial.run in over:
                self.end(self._over(trial, trial.run in entries and entries[trial.run].state == "done"))

    def end(self, trial: Trial) -> None:
        """Record how a trial ended. If another process did, nothing changes."""
        path = file_of(self.path, trial.number, ENDED)
        if self._is_read_only or create_json(path, asdict(trial)):
            self._known[path.name] = trial

    def report(self, task: Task, row: Mapping[str, Any]) -> bool:
        """Record a row of a trial's run if it has a point of the curve.

        Returns:
            True if the pruner ends the trial there, which is recorded too.
        """
        if not (points := self._curve(task.config, [row])):
            return False
        trials, number, search = self.trials, task.trial or 0, self.search
        trial = trials[number] = replace(trials[number], curve=trials[number].curve | points)
        study = self.study(trials)
        pruner = pruner_of(search.pruner, search.config.pruner_args, len(search.base.curve_steps) - 1)
        is_last = row["step"] == task.config.curve_steps[-1]
        is_pruned = not is_last and pruner.prune(study, study.get_trials(deepcopy=False)[number])
        if is_pruned and (kept := self._within_noise(trials, trial)):
            trial, is_pruned = replace(trial, kept=kept), False
        trial = replace(trial, attributes=study.get_trials(deepcopy=False)[number].system_attrs)
        write_json(file_of(self.path, number, CURVE), asdict(trial))
        if is_pruned:  # recorded at once: if this process dies now, no worker resumes the trial
            self.end(replace(trial, state="pruned", spent=_spent([row])))
        return is_pruned

    def _within_noise(self, trials: Sequence[Trial], trial: Trial) -> str:
        """Return where a trial is within the noise of the best one, at its last point; empty if it is not."""
        point, sign = max(trial.curve), 1 if self.search.directions[0] == "minimize" else -1
        values = [sign * one.curve[point] for one in trials if point in one.curve]
        worse = sign * trial.curve[point] - min((value for value in values if not math.isnan(value)), default=math.nan)
        noise = self.search.noise.get(point)
        if noise is None or not worse <= noise:  # nan is outside
            return ""
        behind = f"where it is {worse:.2g} worse than the best"
        return f"not pruned at point {point}, {behind}: within the noise, {noise:.2g}"

    def show_winners(self, runs: list[str]) -> None:
        """Record the runs that confirm the winner, for displays."""
        if not self._is_read_only and read_winners(self.path) != runs:
            write_json(self.path / WINNERS, runs)

    def _over(self, trial: Trial, is_done: bool) -> Trial:
        """Return a trial with what its run has recorded; one that diverged counts as pruned, since that is a result."""
        run, search = RunFolder(self.runs_dir, trial.run), self.search
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
        measured = {name: one["value"] for name, one in result["metrics"].items()}
        # A cost is no metric.
        values: dict[str, Any] = {name: measured.get(name, result.get(name)) for name in search.metrics}
        if missing := [name for name, value in values.items() if value is None or math.isnan(value)]:
            return replace(trial, state="failed", note=f"its run has no {', '.join(missing)}")
        curve = trial.curve | self._curve(self.task(trial).config, rows)
        return replace(trial, state="finished", values=tuple(values.values()), curve=curve)

    def _curve(self, config: Program, rows: Sequence[Mapping[str, Any]]) -> dict[int, float]:
        """Return the points of the curve in these rows, without the one before training."""
        column = self.search.curve or ""
        values = {row["step"]: self.search.sign * row[column] for row in rows if row.get(column) is not None}
        return {point: values[step] for point, step in enumerate(config.curve_steps) if point and step in values}

    def _used(self, trials: Sequence[Trial]) -> set[str]:
        """Return the names of the runs that no further trial can have."""
        return {trial.run for trial in trials if trial.number not in self.failed_before}

    def _check_definition(self) -> None:
        """Write the definition of a new search; refuse one that differs from that of the folder."""
        path, new = self.path / DEFINITION, self.search.definition()
        if (journal := self.path.with_name(f"{self.path.name}.journal")).exists():
            raise UsageError(
                f"{journal} has the trials of an older version, which only that version can continue; move it away to"
                " search again"
            )
        if not (self._is_read_only or path.exists()):
            self.path.mkdir(parents=True, exist_ok=True)
            create_json(path, new)
        old = read_object(path) if path.exists() else new
        if differ := [key for key in {**old, **new} if old.get(key) != new.get(key)]:
            told = [key for key in differ if not key.startswith(ARM)] or differ  # another base run changes all arms
            changed = (f"{key} was {json.dumps(old.get(key))} and is {json.dumps(new.get(key))}" for key in told)
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
