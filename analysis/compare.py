"""Differences between arms and the baseline, and whether expectations were met."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ablations.expand import Cell
from ablations.study import Study
from analysis.intervals import LEVEL, Estimate, Finding, difference, judge, simultaneous_level
from analysis.load import Evidence

Met = Literal["as expected", "not as expected", "inconclusive", ""]


@dataclass(frozen=True)
class Comparison:
    """An arm against the baseline in the primary metric.

    Attributes:
        difference: arm minus baseline, with a simultaneous interval.
        observed: what the difference shows.
        expected: written before the runs: ``better``, ``worse``, ``equal``, or ``open``.
    """

    difference: Estimate
    observed: Finding
    expected: str

    @property
    def met(self) -> Met:
        """The expectation judged by the finding; empty if there was none.

        ``equal`` is met if differences larger than the margin are ruled out; ``better`` and ``worse`` are met by a
        difference in that direction unless it is shown to lie within the margin.
        """
        if self.expected == "open":
            return ""
        if self.observed.word == "inconclusive":
            return "inconclusive"
        is_small = self.observed.is_small
        is_met = is_small if self.expected == "equal" else self.observed.direction == self.expected and not is_small
        return "as expected" if is_met else "not as expected"


def are_paired(arm: str, other: str) -> bool:
    """True if two arms are compared seed by seed. The null control has other seeds than every arm."""
    return arm == other or "null_control" not in (arm, other)


def against_baseline(study: Study, evidence: Evidence, metric: str, arm: str, level: float = LEVEL) -> Estimate:
    """Return arm minus baseline in a metric."""
    one, other = evidence.value(metric, arm), evidence.value(metric, study.baseline)
    return difference(one, other, is_paired=are_paired(arm, study.baseline), level=level)


def primary_comparisons(study: Study, cells: Iterable[Cell], evidence: Evidence) -> dict[str, Comparison]:
    """Compare every requested arm with the baseline in the primary metric, with simultaneous 95 % intervals."""
    requested = {cell.arm for cell in cells}
    others = [arm for arm in study.arms if arm in requested and arm != study.baseline]
    level = simultaneous_level(len(others))
    comparisons = {}
    for arm in others:
        estimate = against_baseline(study, evidence, study.primary_metric, arm, level)
        observed = judge(estimate, study.equivalence_margin, lower_is_better=study.lower_is_better)
        comparisons[arm] = Comparison(estimate, observed, study.expected.get(arm, "open"))
    return comparisons
