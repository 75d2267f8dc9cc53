"""Arms against the baseline, as the study is paired, and what was expected against what was found."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from ablations.expand import Cell
from ablations.study import Study
from analysis.load import Evidence
from analysis.statistics import (
    LEVEL,
    Estimate,
    Found,
    difference,
    judge,
    simultaneous_level,
)

Met = Literal["as expected", "not as expected", "undecided", ""]


@dataclass(frozen=True)
class Comparison:
    """An arm against the baseline in the primary metric.

    Attributes:
        difference: arm minus baseline, with an interval that holds for all arms at once.
        found: what it shows.
        expected: what was written before the runs: ``better``, ``worse``, ``equal``, or ``open``.
    """

    difference: Estimate | None
    found: Found
    expected: str

    @property
    def met(self) -> Met:
        """Whether what was expected was found; empty where nothing was. ``equal`` takes that a difference that matters
        is ruled out, and a difference takes one that may matter."""
        if self.expected == "open":
            return ""
        if self.found.word == "undecided":
            return "undecided"
        if self.expected == "equal":
            return "as expected" if self.found.is_small else "not as expected"
        is_there = self.found.direction == self.expected and not self.found.is_small
        return "as expected" if is_there else "not as expected"


def are_paired(study: Study, arm: str, other: str) -> bool:
    """Whether differences between two arms are taken seed by seed: one run has no other seed than its own, and those of
    the null control are never another arm's."""
    return arm == other or (study.pairing == "seed" and "null_control" not in (arm, other))


def against_baseline(study: Study, values: pd.DataFrame, arm: str, level: float = LEVEL) -> Estimate | None:
    """Arm minus baseline.

    Args:
        values: a row per seed, a column per arm, as ``Evidence.values`` gives it.
    """
    return difference(values, arm, study.baseline, is_paired=are_paired(study, arm, study.baseline), level=level)


def primary_comparisons(study: Study, cells: Iterable[Cell], evidence: Evidence) -> dict[str, Comparison]:
    """Every arm that was asked for but the baseline, in the primary metric, held to 95 % all at once."""
    values = evidence.values(study.primary_metric)
    asked = {cell.arm for cell in cells}
    others = [arm for arm in study.arms if arm in asked and arm != study.baseline]
    level = simultaneous_level(len(others))
    found = {}
    for arm in others:
        estimate = against_baseline(study, values, arm, level)
        shown = judge(estimate, study.equivalence_margin, lower_is_better=study.lower_is_better)
        found[arm] = Comparison(estimate, shown, study.expected.get(arm, "open"))
    return found


def known_differences(comparisons: Mapping[str, Comparison]) -> dict[str, Estimate]:
    """The differences of the arms that have one."""
    return {arm: one.difference for arm, one in comparisons.items() if one.difference is not None}
