"""The trials of a search: files in its folder, which are read without Optuna and without the search itself.

``0003.json`` is a trial as it was drawn, ``0003-curve.json`` as its run last reported it, and ``0003-end.json`` as it
ended. The last of them has all there is. The first and the last are created once and never change. The curve is
replaced while others read it, and only pruning needs it: one that cannot be read counts as none.
"""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from aimv2.ablations.expand import Cell
from aimv2.ablations.study import WINNER
from aimv2.analysis.evidence.searches import State
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, read_object
from aimv2.config.arguments import checked
from aimv2.config.run_config import RunConfig
from aimv2.runs.record import RUN_NAME
from aimv2.sweeps.plan import Trials
from aimv2.sweeps.search.config import WINNERS, folder_of

ARM = "trial"
DRAWN, CURVE, ENDED = "", "-curve", "-end"
FILE = re.compile(rf"(\d{{4,}})({CURVE}|{ENDED})?\.json")


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Trial:
    """A point of the space, and its run.

    Attributes:
        run: the name of the run.
        after: number of the latest attempt at the run when the point was drawn.
        attributes, study_attributes: what Optuna's sampler and pruner keep about this trial, and about all so far.
        curve: values by the number of the point, in the direction of the first metric.
        kept: where it was not pruned, because it was within the noise.
        values: of the metrics; empty unless it is finished.
        note: why it has none; empty if that needs no reason.
        spent: the samples, training FLOPs and seconds that its run has cost.
    """

    number: NonNegativeInt
    run: Annotated[str, Field(pattern=RUN_NAME)]
    params: dict[str, float | str]
    after: NonNegativeInt
    attributes: dict[str, Any] = field(default_factory=dict)
    study_attributes: dict[str, Any] = field(default_factory=dict)
    curve: dict[PositiveInt, float] = field(default_factory=dict)
    kept: str = ""
    state: State = "running"
    values: tuple[float, ...] = ()
    note: str = ""
    spent: dict[str, float] = field(default_factory=dict)


def file_of(folder: Path, number: int, kind: str) -> Path:
    return folder / f"{number:04d}{kind}.json"


def read_trials(folder: Path, known: dict[str, Trial]) -> list[Trial]:
    """Return the trials of a search, in the order of their numbers.

    Args:
        folder: of the search, which may not exist.
        known: what was read from files that never change, by their names; it is completed.

    Raises:
        UsageError: a file is missing, or is no trial.
    """
    names = set(os.listdir(folder)) if folder.exists() else set()
    last = max((int(found[1]) for found in map(FILE.fullmatch, names) if found), default=-1)
    return [_read(folder, number, names, known) for number in range(last + 1)]


def _read(folder: Path, number: int, names: Collection[str], known: dict[str, Trial]) -> Trial:
    ended, curve, drawn = (file_of(folder, number, kind) for kind in (ENDED, CURVE, DRAWN))
    is_over = ended.name in known or ended.name in names
    if not is_over and curve.name in names:
        with contextlib.suppress(UsageError):
            return _parsed(curve, number)
    path = ended if is_over else drawn
    if path.name not in known:
        known[path.name] = _parsed(path, number)
    return known[path.name]


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
    """Return the trials of the search with this name, which may not exist, for displays.

    Raises:
        UsageError: they cannot be read.
    """
    folder = folder_of(runs_dir, name)
    trials, winners = read_trials(folder, {}), read_winners(folder)
    cells = []
    for trial in in_state(trials, "finished", "running"):
        cells += _cells(runs_dir / trial.run, ARM, trial.number)
    for run in winners:
        cells += _cells(runs_dir / run, WINNER)
    count = Counter(trial.state for trial in trials)
    each = ", ".join(f"{count[state]} {state}" for state in get_args(State) if count[state])
    return Trials(each, cells, count["failed"], frozenset([*(trial.run for trial in trials), *winners]))


def read_winners(folder: Path) -> list[str]:
    """Return the names of the runs that confirm the winner of a search, as far as they are known."""
    path = folder / WINNERS
    found: list[str] = checked(str(path), list[str], read_json(path)) if path.exists() else []
    return found


@lru_cache(maxsize=10_000)
def _cell(path: Path, arm: str, number: int | None) -> Cell:
    config = RunConfig.from_dict(read_json(path))
    return Cell(arm=arm, seed=config.seed if number is None else number, config=config)


def _cells(run: Path, arm: str, number: int | None = None) -> list[Cell]:
    """Return the cell of a run; none if it has not started yet."""
    try:
        return [_cell(run / "config.json", arm, number)]
    except UsageError:
        return []
