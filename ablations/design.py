"""Designs: which conditions a study compares. Arms are the levels of factors, alone or combined.

A factor is a mapping of arms, its levels; the first is what the base run has. Conditions on combinations are plain
functions: ``exclude`` leaves some out, ``tie`` lets another value follow (the learning rate the width, say).
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aimv2.config.paths import replaced, value_at
from aimv2.config.run_config import RunConfig

Change = Callable[[RunConfig], RunConfig]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One condition: a name for people, and the change it makes to the study's base run.

    Attributes:
        ratios: values by path (properties such as ``model.decoder.ffn_hidden`` too), and how many times the base run's
            each should be. Whole layers and heads do not allow every ratio; ``Study.as_run`` says where they did not.
    """

    label: str
    change: Change
    ratios: Mapping[str, float] = field(default_factory=dict)


Factor = Mapping[str, Arm]


@dataclass(frozen=True, kw_only=True)
class Design:
    """How the arms came about, in a few words, and the arms by name, in the order of reports."""

    kind: str
    arms: Mapping[str, Arm]


def unchanged(run: RunConfig) -> RunConfig:
    """The change of an arm that is the base run as it is."""
    return run


def setting(values: Mapping[str, Any]) -> Change:
    """The change that puts these values, by path, into a run; a mapping in place of a value sets a whole part."""
    return lambda run: replaced(run, values)


def scaled(ratio: float, *paths: str, multiple: int = 1) -> Change:
    """The change that multiplies integers of the run, by path, each rounded to a multiple and at least that.

    So a study has the paper's levels at the paper's scale, and the same proportions below it as nearly as can be.
    """

    def change(run: RunConfig) -> RunConfig:
        values = {path: max(round(value_at(run, path) * ratio / multiple), 1) * multiple for path in paths}
        return replaced(run, values)

    return change


def level(label: str, ratio: float, path: str) -> Arm:
    """An arm that has so many times the base run's value."""
    return Arm(label=label, change=scaled(ratio, path), ratios={path: ratio})


def widened(ratio: float, stack: str) -> Arm:
    """An arm in which the blocks at a path are so many times as wide, with heads in proportion as nearly as they divide
    the width; of two numbers of heads equally near, the larger.

    The hidden width of SwiGLU follows, to a multiple of 256 (``TransformerConfig.ffn_hidden``).
    """

    def change(run: RunConfig) -> RunConfig:
        part = value_at(run, stack)
        width = max(round(part.width * ratio), 1)
        heads = [number for number in range(1, width + 1) if width % number == 0]
        nearest = min(heads, key=lambda number: (abs(number - part.num_heads * ratio), -number))
        return replaced(run, {f"{stack}.width": width, f"{stack}.num_heads": nearest})

    sizes = ("width", "num_heads", "ffn_hidden")
    ratios = {f"{stack}.{size}": ratio for size in sizes}
    return Arm(label=f"{ratio:g} x as wide", change=change, ratios=ratios)


def switch_objective(name: str, **values: Any) -> Change:
    """The change of the objective, with what another one read back at its default.

    Args:
        values: further values, by path.
    """

    def change(run: RunConfig) -> RunConfig:
        objective: dict[str, Any] = {"name": name}
        if name in ("caption", "cappa"):  # which read captions as the other does
            objective["supervise_eos"] = run.objective.supervise_eos
        return replaced(run, {"objective": objective, **values})

    return change


def one_factor(*factors: Factor) -> Design:
    """Each level by itself, everything else as in the base run."""
    arms = {name: arm for factor in factors for name, arm in factor.items()}
    assert len(arms) == sum(map(len, factors)), "two levels have one name"
    return Design(kind="one factor at a time", arms=arms)


def ladder(rungs: Factor) -> Design:
    """The levels of one factor in their order, from low to high, so that a trend can be asked for."""
    return Design(kind="ladder", arms=rungs)


def factorial(
    *factors: Factor, exclude: Callable[..., bool] | None = None, tie: Change | None = None, kind: str = "factorial"
) -> Design:
    """Every combination of levels, one of each factor; changes are made in the factors' order.

    Args:
        exclude: called with a combination's level names, one of each factor; True leaves it out.
        tie: a change made to every combination, after the others.
    """
    combinations = itertools.product(*(factor.items() for factor in factors))
    kept = [levels for levels in combinations if exclude is None or not exclude(*(name for name, _ in levels))]
    return Design(kind=kind, arms=_combined(kept, tie))


def fractional(*factors: Factor, tie: Change | None = None) -> Design:
    """A regular fraction of the factorial: with factors of n levels each, the 1/n of the combinations whose level
    numbers add up to a multiple of n. With three factors or more, every two levels of two factors meet equally often,
    so main effects can be told apart at a fraction of the cost, if factors do not interact.

    Source: Fisher 1942; Montgomery, Design and Analysis of Experiments, chapter 8.
    """
    num_levels = len(factors[0])
    assert len(factors) > 2, "a fraction needs three factors or more"
    assert all(len(factor) == num_levels for factor in factors), "a regular fraction needs factors of as many levels"
    numbered = itertools.product(*(enumerate(factor.items()) for factor in factors))
    kept = [
        [level for _, level in levels] for levels in numbered if sum(number for number, _ in levels) % num_levels == 0
    ]
    return Design(kind=f"fractional factorial, 1/{num_levels}", arms=_combined(kept, tie))


@dataclass(frozen=True, kw_only=True)
class Range:
    """A value of the run, by path, to be varied between two bounds; on a logarithmic scale or not."""

    path: str
    low: float
    high: float
    log: bool = False

    def at(self, position: float) -> float:
        """The value at a position in 0..1 of the range."""
        if self.log:
            return float(self.low * (self.high / self.low) ** position)
        return self.low + (self.high - self.low) * position


def latin_hypercube(base: Factor, *ranges: Range, num_points: int, seed: int = 0) -> Design:
    """Points that fill a box evenly: each range is cut into as many strata as there are points, and every stratum holds
    one (McKay, Beckman and Conover 1979; scipy's sampler).

    Args:
        base: the baseline, an arm beside the points.
    """
    from scipy.stats import qmc  # here, for studies load fast

    positions = qmc.LatinHypercube(len(ranges), rng=seed).random(num_points)
    points: dict[str, Arm] = {}
    for number, row in enumerate(positions, 1):
        values = {axis.path: axis.at(position) for axis, position in zip(ranges, row.tolist(), strict=True)}
        label = ", ".join(f"{path} {value:.3g}" for path, value in values.items())
        points[f"point_{number}"] = Arm(label=label, change=setting(values))
    return Design(kind=f"Latin hypercube of {num_points} points", arms={**base, **points})


def _combined(combinations: Iterable[Iterable[tuple[str, Arm]]], tie: Change | None) -> dict[str, Arm]:
    arms = {}
    for levels in combinations:
        names, parts = zip(*levels, strict=True)
        changes = [part.change for part in parts] + ([tie] if tie else [])
        arms["_".join(names)] = Arm(
            label=", ".join(part.label for part in parts),
            change=_in_order(changes),
            ratios={path: ratio for part in parts for path, ratio in part.ratios.items()},
        )
    return arms


def _in_order(changes: list[Change]) -> Change:
    def change(run: RunConfig) -> RunConfig:
        for one in changes:
            run = one(run)
        return run

    return change
