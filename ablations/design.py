"""Designs: which conditions a study compares. Arms are levels of factors, alone or combined.

A factor is a mapping of arms, its levels; the first is that of the base run.
"""

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

from aimv2.config.program import replaced, value_at

LEVEL = "level"  # the name of the only factor of a design that names none
Change = Callable[[Any], Any]  # from a run to the run that an arm is, both of the study's program


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One condition: its label in reports, and its change of the study's base run."""

    label: str
    change: Change = lambda run: run
    values: Mapping[str, Any] = field(default_factory=dict)  # by path, of an arm that only sets values
    # Target ratios to the base run by path. Whole layers and heads do not allow every ratio; labels give actual values.
    ratios: Mapping[str, float] = field(default_factory=dict)


Factor = Mapping[str, Arm]
Bounds = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Range:
    """A factor of a search whose levels are all numbers between two bounds, on a logarithmic scale if ``log``."""

    low: float
    high: float
    log: bool = False


Space = Mapping[str, Factor | Range]


@dataclass(frozen=True, kw_only=True)
class Design:
    """The kind of design, and the arms by name, in the order of reports."""

    kind: str
    arms: Mapping[str, Arm]
    levels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # labels by arm and factor, of combinations
    space: Space = field(default_factory=dict)  # that a search combines; a range is named by the path that it sets
    excludes: Callable[..., bool] = lambda *names: False  # True for levels of the factors that do not go together

    def point(self, chosen: Mapping[str, Any]) -> Arm:
        """Return the arm of a point of the space: the name of a level, or a number, by factor."""
        return reduce(_combined, [_level(name, self.space[name], chosen[name]) for name in self.space])


def _level(name: str, factor: Factor | Range, chosen: Any) -> Arm:
    return setting(f"{name} = {chosen:.3g}", {name: chosen}) if isinstance(factor, Range) else factor[chosen]


def setting(label: str, values: Mapping[str, Any]) -> Arm:
    """Return an arm that sets values by path; a mapping sets a whole part of the run."""
    return Arm(label=label, change=lambda run: replaced(run, values), values=values)


def scaled(ratio: float, *paths: str, multiple: int = 1) -> Change:
    """Return a change that multiplies integers of the run, rounded to a multiple and at least that multiple."""

    def change(run: Any) -> Any:
        values = {path: max(round(value_at(run, path) * ratio / multiple), 1) * multiple for path in paths}
        return replaced(run, values)

    return change


def level(label: str, ratio: float, path: str) -> Arm:
    """Return an arm with the base run's value times a ratio."""
    return Arm(label=label, change=scaled(ratio, path), ratios={path: ratio})


def samples(ratio: float) -> Arm:
    """Return an arm with the base run's samples times a ratio, in whole batches."""

    def change(run: Any) -> Any:
        return scaled(ratio, "budget.samples", multiple=run.budget.batch_size)(run)

    return Arm(label=f"{ratio:g} x the samples", change=change, ratios={"budget.samples": ratio})


def widened(ratio: float, stack: str, *, multiple: str = "") -> Arm:
    """Return an arm in which the blocks at a path are wider by a ratio, in multiples of the value at ``multiple``.

    The number of heads is the divisor of the width that is nearest to the same ratio; of two equally near, the larger.
    The hidden width of SwiGLU follows, in multiples of 256 (``TransformerConfig.ffn_hidden``).
    """

    def change(run: Any) -> Any:
        part = value_at(run, stack)
        step = value_at(run, multiple) if multiple else 1
        width = max(round(part.width * ratio / step), 1) * step
        heads = [number for number in range(1, width + 1) if width % number == 0]
        nearest = min(heads, key=lambda number: (abs(number - part.num_heads * ratio), -number))
        return replaced(run, {f"{stack}.width": width, f"{stack}.num_heads": nearest})

    ratios = {f"{stack}.{size}": ratio for size in ("width", "num_heads", "ffn_hidden")}
    return Arm(label=f"{ratio:.3g} x as wide", change=change, ratios=ratios)


def switch_objective(label: str, name: str, attention: str = "", *, batch: int = 1) -> Arm:
    """Return an arm with another objective, whose own options are reset, and the ratio ``batch`` of batch sizes.

    SigLIP's bias starts at the log odds of a pair in such a batch, rounded.
    """

    def change(run: Any) -> Any:
        objective: dict[str, Any] = {"name": name}
        batch_size = run.budget.batch_size * batch
        if name in ("caption", "cappa"):  # they read captions too
            objective["supervise_eos"] = run.objective.supervise_eos
        if name == "siglip":
            objective["bias"] = round(-math.log(max(batch_size - 1, 1)), 2)
        own = {"model.encoder.attention": attention} if attention else {}
        return replaced(run, {"objective": objective, "budget.batch_size": batch_size, **own})

    return Arm(label=label, change=change)


def one_factor(**levels: Arm) -> Design:
    """Return a design of each level by itself, everything else as in the base run."""
    return Design(kind="one factor at a time", arms=levels, space={LEVEL: levels})


def ladder(**rungs: Arm) -> Design:
    """Return a design of the levels of one factor, from low to high.

    A search tries all numbers in between if every rung sets the same value to a number, and the rungs otherwise.
    """
    paths = {path for rung in rungs.values() for path in rung.values}
    numbers = [value for rung in rungs.values() for value in rung.values.values()]
    are_numbers = all(isinstance(value, float) for value in numbers)
    is_range = len(paths) == 1 and len(numbers) == len(rungs) and are_numbers
    space: Space = {paths.pop(): Range(low=min(numbers), high=max(numbers))} if is_range else {LEVEL: rungs}
    return Design(kind="ladder", arms=rungs, space=space)


def factorial(
    *factors: Factor,
    names: Sequence[str] = (),
    exclude: Callable[..., bool] = lambda *names: False,
    kind: str = "factorial",
) -> Design:
    """Return a design of every combination of levels, one of each factor. Changes apply in the factors' order.

    Args:
        names: what reports call the factors; by default ``factor 1`` and so on.
        exclude: called with a combination's level names, one of each factor; True leaves it out.
    """
    titles = names or [f"factor {number}" for number in range(1, len(factors) + 1)]
    arms, levels = {}, {}
    for combination in itertools.product(*factors):
        if not exclude(*combination):
            chosen = [factor[name] for factor, name in zip(factors, combination, strict=True)]
            arm = "_".join(combination)
            arms[arm] = reduce(_combined, chosen)
            levels[arm] = {title: level.label for title, level in zip(titles, chosen, strict=True)}
    space = dict(zip(titles, factors, strict=True))
    return Design(kind=kind, arms=arms, levels=levels, space=space, excludes=exclude)


def _combined(one: Arm, other: Arm) -> Arm:
    return Arm(
        label=f"{one.label}, {other.label}",
        change=lambda run: other.change(one.change(run)),
        ratios={**one.ratios, **other.ratios},
    )


def latin_hypercube(base: Factor, *, linear: Bounds, log: Bounds, num_points: int, seed: int = 0) -> Design:
    """Return a design of points that fill a box evenly: every range has one point in each of ``num_points`` strata.

    ``base`` is the baseline, an arm beside the points; ``linear`` and ``log`` have the ends of each range by path.

    Source: McKay, Beckman and Conover 1979. Not scipy's sampler, since studies must load fast.
    """
    draws, points = random.Random(seed), {}
    strata = {path: draws.sample(range(num_points), num_points) for path in (*linear, *log)}
    for number in range(1, num_points + 1):
        position = {path: (order[number - 1] + draws.random()) / num_points for path, order in strata.items()}
        values = {path: low + (high - low) * position[path] for path, (low, high) in linear.items()}
        values |= {path: low * (high / low) ** position[path] for path, (low, high) in log.items()}
        label = ", ".join(f"{path} {value:.3g}" for path, value in values.items())
        points[f"point_{number}"] = setting(label, values)
    space = {path: Range(low=low, high=high) for path, (low, high) in linear.items()}
    space |= {path: Range(low=low, high=high, log=True) for path, (low, high) in log.items()}
    return Design(kind=f"Latin hypercube of {num_points} points", arms={**base, **points}, space=space)


# Peak learning rates relative to the base's, by the ratio of widths, tuned at laptop only (docs/laptop.md). Table A1
# has 0.8 for twice the width of ViT-L.
RATES: Mapping[float, float] = {0.25: 1.28, 0.5: 1.28, 1: 1, 2: 0.7}


def wide(ratio: float) -> Arm:
    """Return an arm with an encoder of another width, in heads of one width, and with its learning rate."""
    # The probe splits features into heads of one width for all arms.
    arm, rate = widened(ratio, "model.encoder", multiple="evaluation.probe.head_dim"), RATES[ratio]

    def change(run: Any) -> Any:
        return replaced(arm.change(run), {"optimizer.peak_lr": run.optimizer.peak_lr * rate})

    return replace(arm, label=f"encoder {ratio:g} x as wide", change=change)
