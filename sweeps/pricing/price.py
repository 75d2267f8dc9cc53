"""What runs cost: FLOPs in closed form, seconds from short measurements, disk; and limits on that."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, NamedTuple

from ablations.budget import max_train_flops
from aimv2.config.run_config import RunConfig
from aimv2.cost import num_parameters
from aimv2.errors import UsageError
from aimv2.objectives import objective

BYTES_PER_PARAMETER = 4
WEIGHTS_PER_CHECKPOINT = 3  # the weights and AdamW's two moments
CHECKPOINTS = 2  # of a run at once: a new one is whole before it replaces the last

What = Literal["flops", "seconds", "disk_bytes"]


class RunSeconds(NamedTuple):
    """What a run takes one worker: the steps of its training, and all that is measured on the way and at the end."""

    training: float
    evaluation: float


Clock = Callable[[RunConfig], RunSeconds | None]

# Of a limit, by the unit as it is typed: what it limits, and how much one of it is.
UNITS: dict[str, tuple[What, float]] = {
    "s": ("seconds", 1.0),
    "min": ("seconds", 60.0),
    "h": ("seconds", 3600.0),
    "d": ("seconds", 86400.0),
    "MB": ("disk_bytes", 1e6),
    "GB": ("disk_bytes", 1e9),
    "TB": ("disk_bytes", 1e12),
    "FLOPs": ("flops", 1.0),
    "GFLOPs": ("flops", 1e9),
    "TFLOPs": ("flops", 1e12),
    "PFLOPs": ("flops", 1e15),
    "EFLOPs": ("flops", 1e18),
}


@dataclass(frozen=True)
class Price:
    """Of one run or of several.

    Attributes:
        flops: of training, at most, for captions may be shorter than their room.
        training_seconds: one run after the other; None where this machine cannot train the model to measure it.
        seconds: the same, with evaluation.
        longest_seconds: of the longest run, with evaluation.
        weights_bytes: what stays on the disk when all is done: the rest of a run is small beside its weights.
        checkpoint_bytes: of the largest run while it trains, at most.
    """

    flops: int
    training_seconds: float | None
    seconds: float | None
    longest_seconds: float | None
    weights_bytes: int
    checkpoint_bytes: int

    def wall_seconds(self, num_workers: int) -> float | None:
        """Until all is done, with so many workers; no run is shared between them."""
        if self.seconds is None or self.longest_seconds is None:
            return None
        return max(self.longest_seconds, self.seconds / num_workers)

    def disk_bytes(self, num_workers: int) -> int:
        """At most at once: all weights, and the checkpoints of the runs under way."""
        return self.weights_bytes + num_workers * self.checkpoint_bytes


def price(runs: Iterable[RunConfig], clock: Clock) -> Price:
    """What these runs cost together.

    Args:
        clock: what a run takes here; None where that cannot be known.
    """
    prices = [_price(replace(run, seed=0), clock) for run in runs]
    return Price(
        flops=sum(one.flops for one in prices),
        training_seconds=_together(sum, (one.training_seconds for one in prices)),
        seconds=_together(sum, (one.seconds for one in prices)),
        longest_seconds=_together(max, (one.longest_seconds for one in prices)),
        weights_bytes=sum(one.weights_bytes for one in prices),
        checkpoint_bytes=max((one.checkpoint_bytes for one in prices), default=0),
    )


def _together(add: Callable[[list[float]], float], values: Iterable[float | None]) -> float | None:
    """None if one of them is."""
    known: list[float] = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return add(known) if known else 0.0


@cache
def _price(run: RunConfig, clock: Clock) -> Price:
    samples, takes = run.budget.samples, clock(run)
    seconds = None if takes is None else sum(takes)
    weights = BYTES_PER_PARAMETER * num_parameters(objective(run.objective.name).cost(run))
    return Price(
        flops=max_train_flops(run, samples) if samples else 0,
        training_seconds=None if takes is None else takes.training,
        seconds=seconds,
        longest_seconds=seconds,
        weights_bytes=weights,
        checkpoint_bytes=CHECKPOINTS * WEIGHTS_PER_CHECKPOINT * weights if samples else 0,
    )


@dataclass(frozen=True)
class Limit:
    """The most that a launch may cost, as it was typed."""

    text: str
    what: What
    amount: float


def read_limits(text: str) -> list[Limit]:
    """Limits such as ``2h``, ``500PFLOPs`` or ``20min,5GB``.

    Raises:
        UsageError: one that cannot be read, or that nothing could keep.
    """
    limits = []
    for part in text.strip("[]").split(","):
        match = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([A-Za-z]+)\s*", part)
        number = _number(match[1]) if match else None
        if match is None or number is None or match[2] not in UNITS:
            raise UsageError(f"limit={text}: cannot read {part!r}; a number and one of {', '.join(UNITS)}")
        if not 0 < number < math.inf:
            raise UsageError(f"limit={text}: {part.strip()!r} must be above 0, and finite")
        what, unit = UNITS[match[2]]
        limits.append(Limit(part.strip(), what, number * unit))
    return limits


def check_limits(limits: Iterable[Limit], total: Price, num_workers: int) -> None:
    """Refuse a plan that costs more; seconds are those on the wall, all workers at work.

    Raises:
        UsageError: it does, or what it takes is not known.
    """
    costs: dict[What, float | None] = {
        "flops": total.flops,
        "seconds": total.wall_seconds(num_workers),
        "disk_bytes": total.disk_bytes(num_workers),
    }
    for limit in limits:
        cost = costs[limit.what]
        if cost is None:
            raise UsageError(f"limit={limit.text} cannot be held: how long this takes is not known here")
        if cost > limit.amount:
            raise UsageError(f"the plan costs {cost / limit.amount:.3g} times limit={limit.text}; nothing was started")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
