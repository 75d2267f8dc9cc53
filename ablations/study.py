"""What a study is, and the runs it asks for."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from aimv2.config import RunConfig, explain, from_dict, to_dict
from aimv2.errors import UsageError, unknown
from aimv2.record import read_json, write_json
from aimv2.signature import signature, untrained

UNTRAINED = "untrained"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One condition: a name for people, and the one change it makes to the study's base run."""

    label: str
    change: Callable[[RunConfig], RunConfig]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of the paper that a study can decide, in our words, and what must be seen if it holds."""

    id: str
    where: str
    statement: str
    expectations: tuple["Expectation", ...]


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """How one arm's metric should compare with another's (or the arm's own under another metric), seed by seed.

    Attributes:
        relation: ``better`` and ``worse`` can be shown; ``not better`` and ``not worse`` can only be refuted.
        lower_is_better: of both metrics.
    """

    arm: str
    metric: str
    relation: Literal["better", "worse", "not better", "not worse"]
    than_arm: str
    than_metric: str
    lower_is_better: bool = True


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question, and the comparison that answers it.

    Attributes:
        slug: the name on the command line, ``sweep=<slug>``.
        baseline: the arm that the others are compared with.
        arms: by name, in the order of reports.
        seeds: every arm runs with each; arms with one seed see the same images, order, crops and initial weights.
        primary_metric: the metric that decides, of a run's final ones.
        lower_is_better: the direction of the primary metric.
        claims: what the study can decide.
    """

    slug: str
    question: str
    source: str
    baseline: str
    arms: Mapping[str, Arm]
    seeds: tuple[int, ...]
    primary_metric: str
    lower_is_better: bool
    claims: tuple[Claim, ...]

    def __post_init__(self) -> None:
        assert self.baseline in self.arms, f"{self.slug}: baseline {self.baseline!r} is no arm"
        assert UNTRAINED not in self.arms, f"{self.slug}: {UNTRAINED!r} is added by itself"

    def cells(
        self, base: RunConfig, *, arms: Sequence[str] | None = None, seeds: Iterable[int] | None = None
    ) -> list["Cell"]:
        """The runs: every arm with every seed, and the untrained encoder with every seed.

        Raises:
            UsageError: an arm that the study does not have, one that cannot be built, or one that equals another.
        """
        names = list(self.arms) if arms is None else list(arms)
        chosen_seeds = list(self.seeds if seeds is None else seeds)
        for name in names:
            if name not in self.arms:
                raise unknown("arm", name, self.arms)
        for kind, chosen in (("arms", names), ("seeds", chosen_seeds)):
            if not chosen or len(set(chosen)) < len(chosen):
                raise UsageError(f"sweep.{kind}={chosen} must name at least one, and each once")
        # Seeds outside, arms inside: paired runs finish together, and a study stopped early has whole pairs.
        found = [
            Cell(arm=name, seed=seed, config=self._build(name, base, seed)) for seed in chosen_seeds for name in names
        ]
        _check_distinct(found)
        starts = [
            Cell(arm=UNTRAINED, seed=seed, config=untrained(self._build(self.baseline, base, seed)))
            for seed in chosen_seeds
        ]
        return found + starts

    def _build(self, name: str, base: RunConfig, seed: int) -> RunConfig:
        try:
            return self.arms[name].change(dataclasses.replace(base, seed=seed))
        except ValidationError as error:
            raise UsageError(f"arm {name!r} cannot exist: {explain(error)}") from error


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place in a study's table, and the run that fills it."""

    arm: str
    seed: int
    config: RunConfig

    @property
    def name(self) -> str:
        """The run's signature."""
        return signature(self.config)


def _check_distinct(cells: list[Cell]) -> None:
    first: dict[str, Cell] = {}
    for cell in cells:
        other = first.setdefault(cell.name, cell)
        if other is not cell:
            raise UsageError(
                f"arms {other.arm!r} and {cell.arm!r} are the same run at seed {cell.seed}:"
                " an override undid the study's change"
            )


@dataclass(frozen=True, kw_only=True)
class Launched:
    """What a launch asked for: its cells, and the arguments as they were typed."""

    cells: list[Cell]
    arguments: tuple[str, ...]


def write_launched(runs_dir: Path, study: Study, launched: Launched) -> None:
    """Keep what a launch asked for beside the runs, so that its report can be built again from the folder alone."""
    path = _file(runs_dir, study)
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"arm": cell.arm, "seed": cell.seed, "config": to_dict(cell.config)} for cell in launched.cells]
    write_json(path, {"arguments": launched.arguments, "cells": cells})


def read_launched(runs_dir: Path, study: Study) -> Launched:
    """The study's last launch into this folder.

    Raises:
        UsageError: there was none, or its file is broken.
    """
    path = _file(runs_dir, study)
    if not path.exists():
        raise UsageError(f"sweep {study.slug!r} was not launched into {str(runs_dir)!r} yet: {path} does not exist")
    try:
        recorded = read_json(path)
        cells = [Cell(arm=c["arm"], seed=c["seed"], config=from_dict(c["config"])) for c in recorded["cells"]]
        return Launched(cells=cells, arguments=tuple(recorded["arguments"]))
    except (KeyError, TypeError) as error:
        raise UsageError(f"{path} does not say what was launched; launch the sweep again") from error


def _file(runs_dir: Path, study: Study) -> Path:
    return runs_dir / "studies" / f"{study.slug}.json"
