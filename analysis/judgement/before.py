"""Encoders before training: where an architecture alone makes a difference, training did not make all of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aimv2.ablations.expand import Cell, untrained_names
from aimv2.ablations.expectations import READER, Combination, Expectation, Expected, Ranges
from aimv2.ablations.study import UNTRAINED, Study
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.intervals import NO_ESTIMATE, Estimate
from aimv2.analysis.inference.relations import finding
from aimv2.analysis.judgement.compare import Differences
from aimv2.spec.metrics import is_of_encoder, lower_is_better

CONSEQUENCE = "so the difference after training is not the effect of training alone"
ROUNDING = 1e-9  # share of the largest weight below which a sum of weights is 0


@dataclass(frozen=True)
class Start:
    """An arm whose encoder is not the baseline's before training, in a metric of the encoder.

    Attributes:
        untrained: the name of its encoder before training, as of a cell.
        difference: that encoder minus the baseline's before training; without seeds if they were not measured.
    """

    arm: str
    metric: str
    untrained: str
    difference: Estimate


def names_of(study: Study, cells: Iterable[Cell]) -> dict[str, str]:
    """Return, by arm, the name of its encoder before training, whether or not the cells include it."""
    return untrained_names(study, {cell.arm: cell.config for cell in cells})


def starts(study: Study, evidence: Evidence, names: Mapping[str, str]) -> list[Start]:
    """Return the arms with another encoder than the baseline's, in each metric of the encoder that decides something.

    What a fresh reader reads is always among these metrics.

    Args:
        names: as in ``names_of``.
    """
    differences = Differences(study, evidence)
    metrics = dict.fromkeys([*study.deciding_metrics, READER])
    return [
        Start(arm, metric, name, differences.of(name, metric, UNTRAINED, metric))
        for metric in metrics
        if is_of_encoder(metric)
        for arm, name in names.items()
        if name != UNTRAINED
    ]


def qualifications(
    study: Study, differences: Differences, names: Mapping[str, str], expectations: Iterable[Expected]
) -> list[str]:
    """Return which comparisons of different encoders there were before training already, or that none was measured.

    They withhold no verdict, because the difference after training is real. Comparisons that are shown to lie within
    the margin before training are left out.

    Args:
        expectations: those that decide a claim.
        names: as in ``names_of``; arms that it lacks have the baseline's encoder.
    """
    differ, may_differ, unknown = list[str](), list[str](), list[str]()
    for one in expectations:
        encoders = {arm: names.get(arm, UNTRAINED) for arm in one.arms}
        weights = _weights(one, encoders)
        if len(one.metrics) > 1 or not is_of_encoder(one.metric) or not weights:
            continue
        before = NO_ESTIMATE if isinstance(one, Ranges) else differences.weighted(one.metric, weights)
        if not before.has_interval:
            unknown += [study.label(arm) for arm in one.arms if encoders[arm] != UNTRAINED]
            continue
        found = finding(before, study.margin_of(one), lower_is_better=lower_is_better(one.metric))
        if not found.is_small:
            notes = may_differ if found.direction == "unclear" else differ
            notes.append(f"{one.metric}, {_compared(study, one)}: {before.text()}")
    all_notes = {
        f"the encoders differ before training ({'; '.join(differ)}), {CONSEQUENCE}": differ,
        f"the encoders may differ by the margin before training ({'; '.join(may_differ)}), {CONSEQUENCE}": may_differ,
        f"not measured before training, where encoders differ: {', '.join(dict.fromkeys(unknown))}": unknown,
    }
    return [note for note, shown in all_notes.items() if shown]


def _weights(one: Expected, encoders: Mapping[str, str]) -> dict[str, float]:
    """Return the weights that the comparison gives the encoders before training, without those of weight 0.

    Args:
        encoders: the name of each arm's encoder before training.
    """
    if isinstance(one, Ranges):  # no weighted sum: each encoder counts where there are several
        several = set(encoders.values())
        return dict.fromkeys(several, 1.0) if len(several) > 1 else {}
    of_arms = one.weights if isinstance(one, Combination) else {one.than_arm: -1.0, one.arm: 1.0}
    found = dict.fromkeys(encoders.values(), 0.0)
    for arm, weight in of_arms.items():
        found[encoders[arm]] += weight
    largest = max(map(abs, of_arms.values()))
    return {name: weight for name, weight in found.items() if abs(weight) > ROUNDING * largest}


def _compared(study: Study, one: Expected) -> str:
    if not isinstance(one, Expectation):
        return one.name
    return f"{study.label(one.arm)} minus {study.label(one.than_arm)}"
