"""The record of a search over a study's factors: its trials, and the one that was confirmed.

A search writes it to ``runs/searches/<report>.json`` when its trials are over; reports read it.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json
from aimv2.config.arguments import checked
from aimv2.config.data_config import CHECKED

FOLDER = "searches"  # of a runs folder
VERSION = 1

State = Literal["finished", "pruned", "failed", "running"]
Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SearchMetric:
    """A metric that a search improves."""

    name: str = Field(min_length=1)
    direction: Direction
    unit: str

    @property
    def sign(self) -> int:
        """1 if lower values are better, -1 if higher ones are."""
        return 1 if self.direction == "minimize" else -1


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Dimension:
    """A factor that a search varies: a range of numbers, or levels with their labels."""

    name: str = Field(min_length=1)  # the path of a value of a run, or the name of a factor
    low: float | None = None
    high: float | None = None
    log: bool = False
    levels: dict[str, str] | None = None

    def text(self, value: float | str) -> str:
        """Return a value as readers see it."""
        return f"{value:.3g}" if self.levels is None else self.levels[str(value)]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Trial:
    """A point of the space and its run."""

    number: NonNegativeInt
    state: State
    params: dict[str, float | str]
    values: tuple[float, ...] | None  # of the metrics; those of pruned trials decide nothing
    run: Annotated[str, Field(pattern=r"^[\w-]*$")]  # the name of its run; empty if it has none
    curve: tuple[tuple[NonNegativeFloat, float], ...]  # samples and value of ``Search.curve``
    samples: NonNegativeInt  # trained on
    budget: NonNegativeInt  # samples of a whole run
    flops: NonNegativeFloat  # spent, as are the seconds; of a finished trial with its evaluation
    seconds: NonNegativeFloat | None
    note: str = ""

    @property
    def value(self) -> float | None:
        """The first metric of a finished trial."""
        return self.values[0] if self.state == "finished" and self.values else None


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Search:
    """A search: how it looked for points, what it found, and what it chose."""

    version: Literal[1]
    study: str
    sampler: str
    pruner: str
    seed: int  # of the sampler
    split: str  # the pairs on which trials were measured
    metrics: tuple[SearchMetric, ...] = Field(min_length=1)  # the first decides; older searches may have several
    curve: str | None  # what is measured while a run trains, by which trials are pruned
    space: tuple[Dimension, ...] = Field(min_length=1)
    trials: tuple[Trial, ...]
    front: tuple[NonNegativeInt, ...]  # the finished trials that no other one is better than in all metrics
    winner: NonNegativeInt | None  # the one of the front that is best in the first metric
    is_baseline: bool  # True if the baseline itself won, so that there is nothing to confirm
    importances: dict[str, NonNegativeFloat]  # by dimension, the share of the metric's variance; empty if not known

    def __post_init__(self) -> None:
        names, finished = {dimension.name for dimension in self.space}, {trial.number for trial in self.finished}
        for trial in self.trials:
            if unknown := (set(trial.params) | set(self.importances)) - names:
                raise ValueError(f"{min(unknown)!r} is not in the space")
            is_whole = len(trial.values or ()) == len(self.metrics) and set(trial.params) == names
            if trial.state == "finished" and not is_whole:
                raise ValueError(f"trial {trial.number} is finished and lacks the value of a metric or a dimension")
        if not finished.issuperset(self.front):
            raise ValueError("a trial of the front is not a finished trial")
        if self.winner is not None and self.winner not in self.front:
            raise ValueError(f"the winner {self.winner} is not on the front")

    @property
    def metric(self) -> SearchMetric:
        """The metric that decides."""
        return self.metrics[0]

    @property
    def finished(self) -> tuple[Trial, ...]:
        return self.in_state("finished")

    @property
    def winning(self) -> Trial | None:
        return next((trial for trial in self.trials if trial.number == self.winner), None)

    def in_state(self, state: State) -> tuple[Trial, ...]:
        """Return the trials in a state, in the order of their numbers."""
        return tuple(sorted((one for one in self.trials if one.state == state), key=lambda trial: trial.number))


def path_of(runs_dir: Path, report: str) -> Path:
    return runs_dir / FOLDER / f"{report}.json"


def read_search(path: Path) -> Search:
    return search_from_json(read_json(path), str(path))


def search_from_json(values: Any, name: str) -> Search:
    """Return the search with these values, which are from ``name``."""
    version = values.get("version") if isinstance(values, dict) else None
    if isinstance(version, int) and version != VERSION:
        raise UsageError(f"{name} is a search of version {version}, and this code reads version {VERSION}")
    search: Search = checked(f"{name} is not the record of a search", Search, values)
    return search


def search_to_json(search: Search) -> dict[str, Any]:
    space = [
        {"name": factor.name, "low": factor.low, "high": factor.high, "log": factor.log}
        if factor.levels is None
        else {"name": factor.name, "levels": factor.levels}
        for factor in search.space
    ]
    return dataclasses.asdict(search) | {"space": space}
