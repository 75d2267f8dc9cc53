"""Price of runs: FLOPs in closed form, seconds by a clock, disk; and limits on it."""

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
CHECKPOINTS = 2  # of a run at once: a new one is complete before it replaces the last

Quantity = Literal["flops", "seconds", "disk_bytes"]


class RunSeconds(NamedTuple):
    """Time of a run on one worker.

    Attributes:
        training: steps of training.
        evaluation: everything else: start, held-out curve, evaluation at the end.
    """

    training: float
    evaluation: float


Clock = Callable[[RunConfig], RunSeconds | None]

# By the unit of a limit as it is typed: the quantity that it limits, and how much of it one unit is.
UNITS: dict[str, tuple[Quantity, float]] = {
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
    """Price of one run or of several.

    Attributes:
        flops: training FLOPs, an upper bound: captions may be shorter than the model allows.
        training_seconds: training, one run after the other; None if it is not known.
        seconds: the same, with evaluation.
        longest_seconds: the longest run, with evaluation.
        weights_bytes: disk that the finished runs take; other run outputs are small beside the weights.
        checkpoint_bytes: disk that checkpoints of the largest run take while it trains, an upper bound.
    """

    flops: int
    training_seconds: float | None
    seconds: float | None
    longest_seconds: float | None
    weights_bytes: int
    checkpoint_bytes: int

    def wall_seconds(self, num_workers: int) -> float | None:
        """Return the time until all runs are done by so many workers; each run has one worker."""
        if self.seconds is None or self.longest_seconds is None:
            return None
        return max(self.longest_seconds, self.seconds / num_workers)

    def disk_bytes(self, num_workers: int) -> int:
        """Return the most disk that is in use at any time: all weights, and checkpoints of one run per worker."""
        return self.weights_bytes + num_workers * self.checkpoint_bytes


def price(runs: Iterable[RunConfig], clock: Clock) -> Price:
    """Return the price of these runs together.

    Args:
        clock: gives the time of a run, or None if it is not known.
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
    """Add up, or return None if one value is None."""
    known: list[float] = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return add(known) if known else 0.0


@cache
def _price(run: RunConfig, clock: Clock) -> Price:
    samples, time = run.budget.samples, clock(run)
    seconds = None if time is None else sum(time)
    weights = BYTES_PER_PARAMETER * num_parameters(objective(run.objective.name).cost(run))
    return Price(
        flops=max_train_flops(run, samples) if samples else 0,
        training_seconds=None if time is None else time.training,
        seconds=seconds,
        longest_seconds=seconds,
        weights_bytes=weights,
        checkpoint_bytes=CHECKPOINTS * WEIGHTS_PER_CHECKPOINT * weights if samples else 0,
    )


@dataclass(frozen=True)
class Limit:
    """The most that a launch may cost; ``text`` is the limit as it was typed."""

    text: str
    quantity: Quantity
    amount: float


def read_limits(text: str) -> list[Limit]:
    """Read limits such as ``2h``, ``500PFLOPs`` or ``20min,5GB``.

    Raises:
        UsageError: a limit cannot be read, or is not above 0 and finite.
    """
    limits = []
    for part in text.strip("[]").split(","):
        match = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([A-Za-z]+)\s*", part)
        number = _number(match[1]) if match else None
        if match is None or number is None or match[2] not in UNITS:
            raise UsageError(f"limit={text}: cannot read {part!r}; a number and one of {', '.join(UNITS)}")
        if not 0 < number < math.inf:
            raise UsageError(f"limit={text}: {part.strip()!r} must be above 0 and finite")
        quantity, unit = UNITS[match[2]]
        limits.append(Limit(part.strip(), quantity, number * unit))
    return limits


def check_limits(limits: Iterable[Limit], total: Price, num_workers: int) -> None:
    """Refuse a plan that costs more; seconds are wall time with all workers.

    Raises:
        UsageError: the plan costs more, or its time is limited and not known.
    """
    costs: dict[Quantity, float | None] = {
        "flops": total.flops,
        "seconds": total.wall_seconds(num_workers),
        "disk_bytes": total.disk_bytes(num_workers),
    }
    for limit in limits:
        cost = costs[limit.quantity]
        if cost is None:
            raise UsageError(f"limit={limit.text} cannot be checked: the time of these runs is not known here")
        if cost > limit.amount:
            raise UsageError(f"the plan costs {cost / limit.amount:.3g} times limit={limit.text}; nothing was started")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
