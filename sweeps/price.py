"""What runs cost: FLOPs in closed form, seconds from a short measurement, disk; and limits on that."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache

from ablations.budget import max_train_flops
from aimv2.config import RunConfig
from aimv2.errors import UsageError
from aimv2.model.network import num_parameters

BYTES_PER_PARAMETER = 4

Speed = Callable[[RunConfig], float | None]

# Of a limit, by the unit as it is typed: what it limits, and how much one of it is.
UNITS = {
    "s": ("seconds", 1.0),
    "min": ("seconds", 60.0),
    "h": ("seconds", 3600.0),
    "d": ("seconds", 86400.0),
    "MB": ("disk_bytes", 1e6),
    "GB": ("disk_bytes", 1e9),
    "TB": ("disk_bytes", 1e12),
    "FLOPs": ("flops", 1.0),
    "TFLOPs": ("flops", 1e12),
    "PFLOPs": ("flops", 1e15),
    "EFLOPs": ("flops", 1e18),
}


@dataclass(frozen=True)
class Price:
    """Of one run or of several.

    Attributes:
        flops: of training, at most, for captions may be shorter than their room.
        seconds: of training, by one worker; None where this machine cannot train the model to measure it.
        disk_bytes: weights that are kept; the rest of a run is small beside them.
    """

    flops: int
    seconds: float | None
    disk_bytes: int


def price(runs: Iterable[RunConfig], speed: Speed) -> Price:
    """What these runs cost together."""
    prices = [_price(replace(run, seed=0), speed) for run in runs]
    known = [one.seconds for one in prices if one.seconds is not None]
    return Price(
        flops=sum(one.flops for one in prices),
        seconds=sum(known) if len(known) == len(prices) else None,
        disk_bytes=sum(one.disk_bytes for one in prices),
    )


@cache
def _price(run: RunConfig, speed: Speed) -> Price:
    samples = run.budget.samples
    images_per_second = speed(run) if samples else 1.0
    return Price(
        flops=max_train_flops(run, samples) if samples else 0,
        seconds=None if images_per_second is None else samples / images_per_second,
        disk_bytes=BYTES_PER_PARAMETER * sum(num_parameters(run).values()),
    )


@dataclass(frozen=True)
class Limit:
    """The most that a launch may cost, as it was typed."""

    text: str
    what: str
    amount: float


def read_limits(text: str) -> list[Limit]:
    """Limits such as ``2h``, ``500PFLOPs`` or ``20min,5GB``.

    Raises:
        UsageError: one that cannot be read.
    """
    limits = []
    for part in text.strip("[]").split(","):
        match = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([A-Za-z]+)\s*", part)
        number = _number(match[1]) if match else None
        if match is None or number is None or match[2] not in UNITS:
            raise UsageError(f"budget={text}: cannot read {part!r}; a number and one of {', '.join(UNITS)}")
        what, unit = UNITS[match[2]]
        limits.append(Limit(part.strip(), what, number * unit))
    return limits


def check_limits(limits: Iterable[Limit], total: Price, num_workers: int) -> None:
    """Refuse a plan that costs more; seconds are those on the wall, all workers at work.

    Raises:
        UsageError: it does, or what it takes is not known.
    """
    for limit in limits:
        value = getattr(total, limit.what)
        if value is None:
            raise UsageError(f"budget={limit.text} cannot be held: this machine cannot train these models to time them")
        if limit.what == "seconds":
            value /= num_workers
        if value > limit.amount:
            raise UsageError(
                f"the plan costs {value / limit.amount:.3g} times budget={limit.text}; nothing was started"
            )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
