"""Expectations, written before the runs: of two arms, of a combination of arms, such as a slope, or of two ranges.

For a contrast across studies, a study has arms of several others, as ``decoder_size`` does; equal arms are one run.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

from aimv2.definitions.metrics import lower_is_better

READER = "reader_loss"  # stands in for the paper's VQAv2, TextVQA and ImageNet-1k: what can be read from the encoder
INK = "probe_ink"  # the second readout: no caption loss, and not trained by one
PROBE = "probe_object"  # the object in each cell, by an attentive probe, as in AIM v1
DIGITS = "probe_digits"  # no caption names its labels

CONTENT = "content_loss"  # of full attention
CAUSAL_CONTENT = "causal_content_loss"

Relation = Literal["better", "worse", "far worse", "not better", "not worse", "equal"]


@dataclass(frozen=True, kw_only=True)
class _Sized:
    is_second: bool = False  # True if it repeats the expectation before it by the second readout
    effect: float | None = None
    margin: float | None = None
    why: str = ""

    def __post_init__(self) -> None:
        if self.effect is not None and not self.effect > 0:
            raise ValueError(f"effect={self.effect} must be above 0; the relation says its direction")
        if self.margin is not None and not self.margin >= 0:
            raise ValueError(f"margin={self.margin} must not be negative")


@dataclass(frozen=True, kw_only=True)
class Expectation(_Sized):
    """How one arm's metric should compare with another's, or with another metric of the same arm.

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

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.arm, self.than_arm)))

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.metric, self.than_metric)))

    def in_metrics(self, stand_ins: Mapping[str, str]) -> "Expectation":
        metric, than_metric = (stand_ins.get(name, name) for name in (self.metric, self.than_metric))
        return replace(self, metric=metric, than_metric=than_metric)


@dataclass(frozen=True, kw_only=True)
class _OfOneMetric(_Sized):
    metric: str = READER

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.metric,)

    def in_metrics(self, stand_ins: Mapping[str, str]) -> Self:
        return replace(self, metric=stand_ins.get(self.metric, self.metric))


@dataclass(frozen=True, kw_only=True)
class Combination(_OfOneMetric):
    """How a weighted sum of arms in a metric should compare with zero.

    Attributes:
        name: the sum in words, such as "slope of the lead over captioning".
        weights: by arm. They add up to 0, so that what a seed adds to all arms has no effect.
        relation: as in ``Expectation``. *better* means above 0 where higher is better, and below 0 in losses: of a
            slope, that the metric improves.
        effect, margin, why: as in ``Expectation``, in the unit of the sum.
    """

    name: str
    weights: Mapping[str, float]
    relation: Relation

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.weights) < 2 or not all(map(math.isfinite, self.weights.values())):
            raise ValueError(f"weights={dict(self.weights)} must give two arms or more a finite weight")
        if abs(sum(self.weights.values())) > 1e-9 * max(map(abs, self.weights.values())):
            raise ValueError(f"weights={dict(self.weights)} must add up to 0")

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(self.weights)


@dataclass(frozen=True, kw_only=True)
class Ranges(_OfOneMetric):
    """That some arms differ more in a metric than others do: the largest minus the smallest true mean.

    Attributes:
        name, than_name: the two ranges in words.
        range_arms, than_arms: two or more each; they may share one, such as the baseline.
        effect, margin, why: as in ``Expectation``; the effect is the difference of the two ranges.
    """

    name: str
    than_name: str
    range_arms: tuple[str, ...]
    than_arms: tuple[str, ...]
    relation: Literal["wider"] = "wider"

    def __post_init__(self) -> None:
        super().__post_init__()
        for arms in (self.range_arms, self.than_arms):
            if len(set(arms)) < max(len(arms), 2):
                raise ValueError(f"a range needs two arms or more, each once, got {list(arms)}")
        if len(set(self.range_arms) & set(self.than_arms)) > 1:
            raise ValueError(f"{list(self.range_arms)} and {list(self.than_arms)} may share one arm, the baseline")

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.range_arms, *self.than_arms)))


Expected = Expectation | Combination | Ranges


def expect(
    arms: str | Sequence[str],
    relation: Relation,
    than: str,
    metric: str | Sequence[str] = READER,
    than_metric: str = "",
    *,
    effect: float | None = None,
    margin: float | None = None,
    why: str = "",
) -> tuple[Expectation, ...]:
    """Return the same expectation of one or several arms, against one arm, in one or several metrics; the metric of the
    other arm is the same by default."""
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


def by_both_readouts(expectations: Sequence[Expected]) -> tuple[Expected, ...]:
    """Return expectations, each of the reader followed by the same by an attentive probe, unless they are already.

    What a reader trained on captions does not see is not claimed of an encoder, and neither is what only it sees.
    """
    if any(expected.is_second for expected in expectations):
        return tuple(expectations)
    both = list[Expected]()
    for expected in expectations:
        both.append(expected)
        if READER in expected.metrics:
            both.append(replace(expected.in_metrics({READER: INK}), is_second=True, effect=None, margin=None))
    return tuple(both)


def slope(positions: Mapping[str, float]) -> dict[str, float]:
    """Return the weights of arms in the slope of the least-squares line through their metric, by their places."""
    mean = sum(positions.values()) / len(positions)
    spread = sum((x - mean) ** 2 for x in positions.values())
    if not spread > 0:
        raise ValueError(f"a slope needs two different places, got {dict(positions)}")
    return {arm: (x - mean) / spread for arm, x in positions.items()}


def gain(objective: str, levels: Mapping[str, float]) -> dict[str, float]:
    """Return the weights of an objective's slope over the places of levels; arms are named OBJECTIVE_LEVEL."""
    return slope({f"{objective}_{level}": place for level, place in levels.items()})


def minus(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {arm: one.get(arm, 0.0) - other.get(arm, 0.0) for arm in (*one, *other)}


def default_margin(metric: str) -> float:
    """Return a margin, for figures and plans, where no sensitivity study has measured one and nothing is decided."""
    return 0.1 if lower_is_better(metric) else 0.01
