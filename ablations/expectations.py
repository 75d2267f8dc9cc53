"""Expectations, written before the runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aimv2.evaluation.metrics import lower_is_better

PROBE = "probe_object"  # stands in for the paper's ImageNet-1k probe: the object in each cell, by an attentive probe
DIGITS = "probe_digits"  # no caption names its labels
STEP_TIME = "train_cpu_ms_per_sample"  # computed from a run's record, not one of its final metrics

CONTENT = "content_loss"  # of full attention
CAUSAL_CONTENT = "causal_content_loss"
CONTENT_LOSSES = (CONTENT, CAUSAL_CONTENT, "unseen_content_loss", "image_gain")  # with those of a class
CONTENT_MARGIN = 0.1

Relation = Literal["better", "worse", "far worse", "not better", "not worse", "equal"]


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """How one arm's metric should compare with another's, or with another metric of the same arm.

    ``analysis/inference/relations.py`` judges the relation.

    Attributes:
        effect: the size of the claimed effect, in the metric's unit; None if the paper gives none for such a metric.
        margin: the equivalence margin, in the metric's unit; None for that of the study (``Study.margin``).
        why: where effect and margin come from.
    """

    arm: str
    metric: str
    relation: Relation
    than_arm: str
    than_metric: str
    effect: float | None = None
    margin: float | None = None
    why: str = ""

    def __post_init__(self) -> None:
        if self.effect is not None and not self.effect > 0:
            raise ValueError(f"effect={self.effect} must be above 0; the relation says its direction")
        if self.margin is not None and not self.margin >= 0:
            raise ValueError(f"margin={self.margin} must not be negative")


def expect(
    arms: str | Sequence[str],
    relation: Relation,
    than: str,
    metric: str | Sequence[str],
    than_metric: str = "",
    *,
    effect: float | None = None,
    margin: float | None = None,
    why: str = "",
) -> tuple[Expectation, ...]:
    """Return the same expectation of one or several arms, against one arm, in one or several metrics.

    Args:
        than_metric: the metric of the other arm; the same by default.
        effect, margin, why: as in ``Expectation``.
    """
    return tuple(
        Expectation(
            arm=arm,
            metric=name,
            relation=relation,
            than_arm=than,
            than_metric=than_metric or name,
            effect=effect,
            margin=margin,
            why=why,
        )
        for name in ([metric] if isinstance(metric, str) else metric)
        for arm in ([arms] if isinstance(arms, str) else arms)
    )


def default_margin(metric: str) -> float:
    """Return the equivalence margin of a metric for which a study sets none, in its unit."""
    return _margin(metric)[0]


def margin_reason(metric: str) -> str:
    """Return the reason for the default margin of a metric, in words."""
    return _margin(metric)[1]


def _margin(metric: str) -> tuple[float, str]:
    if metric == STEP_TIME:
        return 0.0, "any difference counts"
    if metric.startswith(CONTENT_LOSSES):
        return CONTENT_MARGIN, "at demo, about what a tenth fewer samples cost"
    if lower_is_better(metric):
        return 0.02, "by convention"
    return 0.01, "a point, where most of the paper's ablations differ by 0 to 1.0 points"
