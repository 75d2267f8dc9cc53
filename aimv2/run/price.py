"""Price of runs: FLOPs in closed form, seconds by a clock, disk; and limits on it. Nothing here imports torch."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

from aimv2.base.errors import UsageError
from aimv2.config.program import Program
from aimv2.config.run_config import RunConfig
from aimv2.config.training_config import NUM_MOMENTS
from aimv2.cost import num_parameters
from aimv2.definitions.objectives import objective
from aimv2.definitions.programs import max_train_flops
from aimv2.run.options import MAX_CPU_FLOPS
from aimv2.runs.record import Hours, hours_of

BYTES_PER_PARAMETER = 4
CHECKPOINTS = 2  # of a run at once: a new one is complete before it replaces the last

Quantity = Literal["flops", "seconds", "disk_bytes"]


class RunSeconds(NamedTuple):
    """Time of a run on one worker."""

    training: float  # its steps
    evaluation: float  # everything else: start, held-out curve, evaluation at the end
    estimated_from: frozenset[str] = frozenset()  # the measured runs of other efforts that it follows from, in words


Clock = Callable[[Program], RunSeconds | None]

# Units of a limit as they are typed, and how much of the quantity one unit is.
UNITS: dict[Quantity, dict[str, float]] = {
    "seconds": {"s": 1, "min": 60, "h": 3600, "d": 86400},
    "disk_bytes": {"MB": 1e6, "GB": 1e9, "TB": 1e12},
    "flops": {"FLOPs": 1, "GFLOPs": 1e9, "TFLOPs": 1e12, "PFLOPs": 1e15, "EFLOPs": 1e18},
}


@dataclass(frozen=True)
class Price:
    """Price of one run or of several."""

    flops: int  # of training, an upper bound: captions may be shorter than the model allows
    seconds: float | None  # of training and evaluation, one run after the other; None if it is not known
    longest_seconds: float | None  # those of the longest run
    weights_bytes: int  # disk that the finished runs take; other run outputs are small beside the weights
    checkpoint_bytes: int  # disk that checkpoints of the largest run take while it trains, an upper bound
    estimated_from: frozenset[str] = frozenset()  # as in ``RunSeconds``, of all runs
    hours: Hours | None = None  # of GPUs and cores, of all runs; None if the time is not known, or of one run alone

    def wall_seconds(self, num_workers: int) -> float | None:
        """Return the time until all runs are done by so many workers; each run has one worker."""
        if self.seconds is None or self.longest_seconds is None:
            return None
        return max(self.longest_seconds, self.seconds / num_workers)

    def disk_bytes(self, num_workers: int) -> int:
        """Return the most disk that is in use at any time: all weights, and checkpoints of one run per worker."""
        return self.weights_bytes + num_workers * self.checkpoint_bytes

    @property
    def basis(self) -> str:
        """Return in words what the time is estimated from; empty if runs of these shapes were measured."""
        first, *others = sorted(self.estimated_from) or [""]
        more = f" and {len(others)} more" * bool(others)
        return f", estimated from {first}{more}" if first else ""

    @property
    def hours_text(self) -> str:
        """GPU-hours and core-hours in words; empty if they are not known."""
        hours = {} if self.hours is None else {"GPU-hours": self.hours.gpu, "core-hours": self.hours.core}
        return ", ".join(f"{number:.3g} {name}" for name, number in hours.items() if number)

    def described(self, num_workers: int) -> str:
        """Return FLOPs and disk in words."""
        weights, checkpoints = self.weights_bytes / 1e6, num_workers * self.checkpoint_bytes / 1e6
        saved = f" and up to {checkpoints:,.1f} MB of checkpoints" if checkpoints else ""
        return f"at most {self.flops:.2e} training FLOPs; {weights:,.1f} MB of weights{saved}"


def duration(seconds: float) -> str:
    """Format seconds as seconds, minutes or hours, whichever reads best."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def price(runs: Iterable[Program], clock: Clock) -> Price:
    """Return the price of these runs together; the clock gives the time of a run, or None if it is not known."""
    runs = list(runs)
    prices = [price_of(run.with_seed(0), clock) for run in runs]
    seconds = [price.seconds for price in prices if price.seconds is not None]
    is_known, hours = len(seconds) == len(prices), None
    if is_known:
        each = list(map(hours_of, runs, seconds))
        hours = Hours(sum(used.gpu for used in each), sum(used.core for used in each))
    return Price(
        flops=sum(price.flops for price in prices),
        seconds=sum(seconds) if is_known else None,
        longest_seconds=max(seconds, default=0.0) if is_known else None,
        weights_bytes=sum(price.weights_bytes for price in prices),
        checkpoint_bytes=max((price.checkpoint_bytes for price in prices), default=0),
        estimated_from=frozenset[str]().union(*(price.estimated_from for price in prices)),
        hours=hours,
    )


@cache
def price_of(run: Program, clock: Clock) -> Price:
    """Return the price of one run; that of another model than AIMv2 is what it says of itself."""
    if not isinstance(run, RunConfig):
        return _price(run.train_flops, clock(run), run.weights_bytes)
    samples, time = run.budget.samples, clock(run)
    parts = objective(run.objective.name).cost(run)
    weights = BYTES_PER_PARAMETER * num_parameters(parts)
    checkpoints = CHECKPOINTS * (1 + NUM_MOMENTS) * weights if samples else 0
    return _price(max_train_flops(run, samples), time, weights, checkpoints)


def _price(flops: int, time: RunSeconds | None, weights: int, checkpoints: int = 0) -> Price:
    if time is None:
        return Price(flops, None, None, weights, checkpoints)
    seconds = time.training + time.evaluation
    return Price(flops, seconds, seconds, weights, checkpoints, time.estimated_from)


@dataclass(frozen=True)
class Limit:
    """The most that runs may cost; ``text`` is the limit as it was typed, in this unit."""

    text: str
    quantity: Quantity
    unit: str
    amount: float


def read_limits(text: str) -> list[Limit]:
    """Read limits such as ``2h``, ``500PFLOPs`` or ``20min,5GB``."""
    units = {name: (quantity, size) for quantity, sizes in UNITS.items() for name, size in sizes.items()}
    limits = []
    for part in text.strip("[]").split(","):
        match = re.fullmatch(r"((?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([A-Za-z]+)", part.strip())
        if match is None or match[2] not in units:
            raise UsageError(f"limit={text}: cannot read {part!r}; a number and one of {', '.join(units)}")
        quantity, size = units[match[2]]
        if not 0 < (amount := float(match[1]) * size) < math.inf:
            raise UsageError(f"limit={text}: {part.strip()!r} must be above 0 and finite")
        limits.append(Limit(part.strip(), quantity, match[2], amount))
    return limits


def check_limits(limits: Iterable[Limit], total: Price, num_workers: int) -> None:
    """Refuse runs that cost more; seconds are wall time with all workers."""
    of_time = f"with {num_workers} workers" if num_workers > 1 else "of training and evaluation"
    costs: dict[Quantity, tuple[float | None, str]] = {
        "flops": (total.flops, "of training"),
        "seconds": (total.wall_seconds(num_workers), of_time),
        "disk_bytes": (total.disk_bytes(num_workers), "of disk space"),
    }
    for limit in limits:
        cost, what = costs[limit.quantity]
        if cost is None:
            raise UsageError(f"limit={limit.text} cannot be checked: the time of these runs is not known here")
        if cost > limit.amount:
            raise UsageError(
                f"this takes {cost / UNITS[limit.quantity][limit.unit]:.3g} {limit.unit} {what},"
                f" {cost / limit.amount:.3g} times limit={limit.text}; nothing was started. Raise that limit,"
                " or request fewer or shorter runs"
            )


def check_cpu(flops: int, limits: Iterable[Limit]) -> None:
    """Refuse training on the CPU that takes more than MAX_CPU_FLOPS, unless there is a limit on its FLOPs or time."""
    if flops <= MAX_CPU_FLOPS or any(limit.quantity != "disk_bytes" for limit in limits):
        return
    unit, size = max(UNITS["flops"].items(), key=lambda one: one[1] * (one[1] <= flops))
    raise UsageError(
        f"on the CPU this takes {flops:.2g} training FLOPs, {flops / MAX_CPU_FLOPS:,.0f} days at 1 TFLOP/s; nothing was"
        f" started. Use a GPU or a smaller run, or type limit={-(-flops // int(size))}{unit} to train it here"
    )
