"""The record of a search over a study's factors: its trials, and the one that was confirmed.

A search writes it to ``runs/searches/<report>.json`` when its trials are over. Optuna has found the front and the
importances.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json
from aimv2.config.data_config import CHECKED

FOLDER = "searches"
VERSION = 1

State = Literal["finished", "pruned", "failed", "running"]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SearchMetric:
    """A metric that a search improves."""

    name: str = Field(min_length=1)
    direction: Literal["minimize", "maximize"]
    unit: str

    @property
    def sign(self) -> int:
        """1 if lower values are better, -1 if higher ones are."""
        return 1 if self.direction == "minimize" else -1


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Dimension:
    """A value of a run, or a factor, that a search varies: a range of numbers, or levels with their labels."""

    name: str = Field(min_length=1)
    low: float | None = None
    high: float | None = None
    log: bool = False
    levels: dict[str, str] | None = None

    def text(self, value: float | str) -> str:
        """Return a value as readers see it."""
        return f"{value:.3g}" if self.levels is None else self.levels[str(value)]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Trial:
    """A point of the space and its run.

    Values are in the order of the metrics; those of pruned trials decide nothing. ``curve`` has samples and value while
    the run trained, ``samples`` those it trained on, and ``budget`` those of a whole run. The seconds of a finished
    trial include evaluation, and are None if they were not measured.
    """

    number: NonNegativeInt
    state: State
    params: dict[str, float | str]
    values: tuple[float, ...] | None
    run: Annotated[str, Field(pattern=r"^[\w-]*$")]
    curve: tuple[tuple[NonNegativeFloat, float], ...]
    samples: NonNegativeInt
    budget: NonNegativeInt
    flops: NonNegativeFloat
    seconds: NonNegativeFloat | None
    note: str = ""

    @property
    def value(self) -> float | None:
        """The first metric of a finished trial."""
        return self.values[0] if self.state == "finished" and self.values else None


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Search:
    """A search: how it looked for points, what it found, and what it chose.

    Trials are pruned by ``curve``, which is measured while a run trains. The front has the numbers of the finished
    trials that no other one beats in all metrics; the winner is best in the first. If the winner is the baseline, there
    is nothing to confirm. Importances are shares of the metric's variance by dimension.
    """

    version: Literal[1]
    study: str
    sampler: str
    pruner: str
    seed: int
    split: str
    metrics: tuple[SearchMetric, ...] = Field(min_length=1)
    curve: str | None
    space: tuple[Dimension, ...] = Field(min_length=1)
    trials: tuple[Trial, ...]
    front: tuple[NonNegativeInt, ...]
    winner: NonNegativeInt | None
    is_baseline: bool
    importances: dict[str, NonNegativeFloat]

    def __post_init__(self) -> None:
        names, finished = {one.name for one in self.space}, {one.number for one in self.finished}
        for one in self.trials:
            if other := (set(one.params) | set(self.importances)) - names:
                raise ValueError(f"{min(other)!r} is not in the space")
            if one.state == "finished" and (len(one.values or ()) != len(self.metrics) or set(one.params) != names):
                raise ValueError(f"trial {one.number} is finished and lacks the value of a metric or a dimension")
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
        return next((one for one in self.trials if one.number == self.winner), None)

    def in_state(self, state: State) -> tuple[Trial, ...]:
        """Return the trials in a state, in the order of their numbers."""
        return tuple(sorted((one for one in self.trials if one.state == state), key=lambda one: one.number))

    def cost(self, trial: Trial) -> list[float]:
        """Return the values of a finished trial such that lower is better."""
        return [metric.sign * value for metric, value in zip(self.metrics, trial.values or (), strict=True)]


def path_of(runs_dir: Path, report: str) -> Path:
    """Return where the search of a report (``Request.folder``) is recorded."""
    return runs_dir / FOLDER / f"{report}.json"


def read_search(path: Path) -> Search:
    """Return the search of a file; UsageError if it is missing, broken or of another version."""
    return search_from_json(read_json(path), str(path))


def search_from_json(values: Any, name: str) -> Search:
    """Return the search with these values; ``name`` says in errors where they are from."""
    version = values.get("version") if isinstance(values, dict) else None
    if isinstance(version, int) and version != VERSION:
        raise UsageError(f"{name} is a search of version {version}, and this code reads version {VERSION}")
    try:
        return TypeAdapter(Search).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"{name} is not the record of a search: {': '.join(filter(None, (place, message)))}"
        ) from error


def search_to_json(search: Search) -> dict[str, Any]:
    """Return the values of a search as JSON has them."""
    space = [
        {"name": one.name, "low": one.low, "high": one.high, "log": one.log}
        if one.levels is None
        else {"name": one.name, "levels": one.levels}
        for one in search.space
    ]
    return dataclasses.asdict(search) | {"space": space}
