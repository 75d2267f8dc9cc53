"""What a study expects to see, and what each claim needs to be seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aimv2.evaluation.metrics import lower_is_better as final_metric_falls

PROBE = "probe_emoji_subcategory"  # stands in for the paper's ImageNet-1k probe


STEP_TIME = "train_ms_per_sample"  # measured too, but no final metric: it is of the run's record


Relation = Literal["better", "worse", "far worse", "not better", "not worse", "equal"]


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """How one arm's metric should compare with another's (or the arm's own under another metric).

    What the runs show decides; what they merely fail to show decides nothing. A difference matters from
    ``Study.margin`` on.

    Attributes:
        relation: ``better`` and ``worse`` are supported by that difference, and refuted by the opposite one or where
            none that matters is left; ``far worse`` is the same for a difference that matters; ``not better`` and ``not
            worse`` are refuted by any such difference, and supported where none that matters is left on that side;
            ``equal`` is both.
    """

    arm: str
    metric: str
    relation: Relation
    than_arm: str
    than_metric: str


def expect(arms: str | Sequence[str], relation: Relation, than: str, metric: str) -> tuple[Expectation, ...]:
    """The same expectation of several arms, against one arm, in one metric."""
    names = [arms] if isinstance(arms, str) else arms
    return tuple(
        Expectation(arm=arm, metric=metric, relation=relation, than_arm=than, than_metric=metric) for arm in names
    )


def lower_is_better(metric: str) -> bool:
    """Which way a metric improves, the time that a sample takes included."""
    return metric == STEP_TIME or final_metric_falls(metric)


def default_margin(metric: str) -> float:
    """The smallest difference that would matter in a metric of which a study says nothing itself, in its unit: 0.02 of
    losses and bits, 0.01 of accuracies and recalls, and any of the time that a sample takes."""
    if metric == STEP_TIME:
        return 0.0
    return 0.02 if lower_is_better(metric) else 0.01
