"""Differences between arms, and whether expectations were met."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from aimv2.ablations.expand import Cell
from aimv2.ablations.study import Study
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.contrasts import SharedError
from aimv2.analysis.inference.intervals import (
    LEVEL,
    NO_ESTIMATE,
    NOT_MEASURED,
    Estimate,
    mean_interval,
    size_of,
    unpaired_difference,
)
from aimv2.analysis.inference.items import with_items
from aimv2.analysis.inference.ranges import NO_BRACKET, Bracket, range_difference
from aimv2.analysis.inference.relations import Finding, Outcome, finding, outcome
from aimv2.analysis.judgement.classes import Parts, parts, shares_of


@dataclass(frozen=True)
class Comparison:
    """An arm against the baseline in the primary metric.

    Attributes:
        difference: arm minus baseline, with a simultaneous interval.
        observed: what the difference shows.
        expected: written before the runs: ``better``, ``worse``, ``equal``, or ``open``.
        outcome: the expectation judged; None if there was none.
        withheld: why nothing is concluded about the arm; empty if nothing prevents it.
        parts: the difference by class of word; None if the metric has no classes, or as in ``classes.parts``.
    """

    difference: Estimate
    observed: Finding
    expected: str
    outcome: Outcome | None = None
    withheld: str = ""
    parts: Parts | None = None

    @property
    def shows(self) -> str:
        """What is observed, in a word or two."""
        return self.observed.text if self.difference.n else NOT_MEASURED


class Differences:
    """Differences between the arms of a study, with the error that each allows.

    Arms of the study share an error. The controls do not, because their spread may be another: the positive control has
    its own paired error, and the null control, with seeds of its own, an unpaired one. A difference of two
    metrics has its own paired error, because its spread differs from arm to arm.
    """

    def __init__(self, study: Study, evidence: Evidence) -> None:
        self._study = study
        self._evidence = evidence
        self._errors: dict[str, SharedError] = {}
        self._shares: dict[str, dict[str, float]] = {}

    def of(self, arm: str, metric: str, than_arm: str, than_metric: str, level: float = LEVEL) -> Estimate:
        """Return one side minus the other; the interval covers evaluation items where both sides have their values."""
        if metric == than_metric and {arm, than_arm} <= set(self._study.arms):
            estimate = self._error(metric).contrast(arm, than_arm, level)
        else:
            estimate = self._alone(arm, metric, than_arm, than_metric, level)
        return self._with_items_of_two(estimate, arm, metric, than_arm, than_metric)

    def combination(self, metric: str, weights: Mapping[str, float], level: float = LEVEL) -> Estimate:
        """Return a weighted sum of arms of the study; the interval covers evaluation items as in ``of``."""
        estimate = self._error(metric).combination(weights, level)
        return self._with_items(estimate, [(arm, metric, weight) for arm, weight in weights.items()])

    def weighted(self, metric: str, weights: Mapping[str, float], level: float = LEVEL) -> Estimate:
        """Return a weighted sum of any paired arms, such as untrained encoders, with an error of its own.

        The interval covers evaluation items as in ``of``.
        """
        values = [weight * self._evidence.value(metric, arm) for arm, weight in weights.items()]
        if not all(len(one) for one in values):
            return NO_ESTIMATE
        estimate = mean_interval(pd.concat(values, axis=1).sum(axis=1, skipna=False), level, size=size_of(*values))
        return self._with_items(estimate, [(arm, metric, weight) for arm, weight in weights.items()])

    def ranges(self, metric: str, arms: Sequence[str], than_arms: Sequence[str], level: float = LEVEL) -> Bracket:
        """Return how much wider the range of some arms of the study is than that of others; it covers seeds only."""
        if not {*arms, *than_arms} <= set(self._evidence.values(metric)):
            return NO_BRACKET
        return range_difference(self._error(metric), arms, than_arms, level)

    def from_baseline(
        self, metric: str, arms: Sequence[str], level: float = LEVEL, *, covers_items: bool = False
    ) -> dict[str, Estimate]:
        """Return each arm minus the baseline; the intervals hold together with ``level``.

        Args:
            arms: arms of the study.
            covers_items: True to treat evaluation items as random where runs have their values, which reads files.
        """
        baseline = self._study.baseline
        found = self._error(metric).contrasts(arms, baseline, level)
        if not covers_items:
            return found
        return {arm: self._with_items_of_two(one, arm, metric, baseline, metric) for arm, one in found.items()}

    def separately(self, metric: str, arm: str, level: float = LEVEL, *, covers_items: bool = False) -> Estimate:
        """Return one arm, control or untrained encoder minus the baseline, with an interval of its own."""
        if arm in self._study.arms:
            return self.from_baseline(metric, [arm], level, covers_items=covers_items)[arm]
        estimate = self._alone(arm, metric, self._study.baseline, metric, level)
        if not covers_items:
            return estimate
        return self._with_items_of_two(estimate, arm, metric, self._study.baseline, metric)

    def parts(self, metric: str, wholes: Mapping[str, Estimate], than: str, level: float = LEVEL) -> dict[str, Parts]:
        """Return differences of arms of the study from one other by class of word, as ``classes.parts`` does."""
        if not {*wholes, than} <= set(self._study.arms):
            return {}
        if metric not in self._shares:
            self._shares[metric] = shares_of(self._evidence, metric)
        return parts(self._study, self._evidence, metric, wholes, than, level, self._error, self._shares[metric])

    def _error(self, metric: str) -> SharedError:
        if metric not in self._errors:
            values = self._evidence.values(metric)
            self._errors[metric] = SharedError(values[[arm for arm in self._study.arms if arm in values]])
        return self._errors[metric]

    def _alone(self, arm: str, metric: str, than_arm: str, than_metric: str, level: float) -> Estimate:
        one, other = self._evidence.value(metric, arm), self._evidence.value(than_metric, than_arm)
        if not are_paired(arm, than_arm):
            return unpaired_difference(one, other, level)
        if not len(one) or not len(other):
            return NO_ESTIMATE
        return mean_interval(one - other, level, size=size_of(one, other))

    def _with_items_of_two(
        self, estimate: Estimate, arm: str, metric: str, than_arm: str, than_metric: str
    ) -> Estimate:
        if not are_paired(arm, than_arm):
            return estimate
        return self._with_items(estimate, [(arm, metric, 1.0), (than_arm, than_metric, -1.0)])

    def _with_items(self, estimate: Estimate, parts: Sequence[tuple[str, str, float]]) -> Estimate:
        """Add the items' part if all seeds of all parts (``of_sum``) have the values of the same items."""
        if not estimate.has_interval:
            return estimate
        covariance_SS, num_items = self._evidence.items.of_sum(parts)
        return estimate if len(covariance_SS) < estimate.n else with_items(estimate, covariance_SS, num_items)


def are_paired(arm: str, other: str) -> bool:
    """True if two arms are compared seed by seed. The null control has other seeds than every arm."""
    return arm == other or "null_control" not in (arm, other)


def mixed_code(study: Study, evidence: Evidence) -> str:
    """Return a note if the finished runs are of different code and the study does not allow it; otherwise empty."""
    num_codes = len(evidence.codes)
    return "" if study.allow_mixed_code or num_codes < 2 else f"the runs are of {num_codes} codes"


def reasons_to_withhold(study: Study, evidence: Evidence, arms: Iterable[str]) -> list[str]:
    """Return why nothing is concluded about these arms: the runs are of different code, or runs failed, and those that
    remain are a selection."""
    if mixed := mixed_code(study, evidence):
        return [mixed]
    return [
        f"{evidence.num_failed(arm)} of {evidence.num_runs(arm)} runs of {study.label(arm)} failed"
        for arm in dict.fromkeys(arms)
        if evidence.num_failed(arm)
    ]


def primary_comparisons(
    study: Study, cells: Iterable[Cell], evidence: Evidence, level: float = LEVEL
) -> dict[str, Comparison]:
    """Compare every requested arm with the baseline in the primary metric, with simultaneous intervals."""
    requested = {cell.arm for cell in cells}
    others = [arm for arm in study.arms if arm in requested and arm != study.baseline]
    differences, metric = Differences(study, evidence), study.primary_metric
    estimates = differences.from_baseline(metric, others, level, covers_items=True)
    of_classes = differences.parts(metric, estimates, study.baseline, level)
    return {
        arm: replace(_comparison(study, evidence, arm, estimate), parts=of_classes.get(arm))
        for arm, estimate in estimates.items()
    }


def _comparison(study: Study, evidence: Evidence, arm: str, estimate: Estimate) -> Comparison:
    relation, margin, is_lower_better = study.expected.get(arm), study.primary_margin, study.lower_is_better
    return Comparison(
        estimate,
        finding(estimate, margin, lower_is_better=is_lower_better),
        relation or "open",
        outcome(relation, estimate, margin, lower_is_better=is_lower_better) if relation else None,
        withheld="; ".join(reasons_to_withhold(study, evidence, [arm, study.baseline])),
    )
