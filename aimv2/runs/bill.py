"""What the attempts at a run took, those without a result too, for the bill of a study."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json
from aimv2.config.program import Program

Outcome = Literal["result", "failed", "superseded"]

OWN = ("holder.json", "heartbeat", "released")  # what an attempt writes first and last


class Hours(NamedTuple):
    """Hours of GPUs, or of cores of the CPU: those of cores are 0 for runs on a GPU, whose price includes them."""

    gpu: float
    core: float


class Billed(NamedTuple):
    """An attempt.

    Attributes:
        outcome: ``result`` of the one whose result is the run's; ``failed``, with a recorded reason; ``superseded``:
            interrupted or lost, so that a later attempt resumed the run or started it again, or still running.
        hardware: as its manifest has it, or, if it ended before it wrote one, that of the run's next attempt or else
            of one before; empty if none wrote one.
        seconds: of wall time that it held its resources.
        hours: of GPUs and cores.
    """

    outcome: Outcome
    hardware: str
    seconds: float
    hours: Hours


def hours_of(config: Program, seconds: float) -> Hours:
    """Return the hours of so many seconds of a run: of its ranks, or of their threads and given loader processes."""
    hours = config.ranks * seconds / 3600
    if config.device == "cuda":
        return Hours(hours, 0.0)
    return Hours(0.0, hours * (config.threads + (config.loaders or 0)))


def billed(run: Path, config: Program) -> Iterator[Billed]:
    """Yield every attempt at a run, in order.

    Times are those of the files that an attempt writes first and last, by the one clock of their file system.
    """
    result = 0
    with contextlib.suppress(UsageError, KeyError, TypeError, ValueError):
        result = int(read_json(run / "result.json")["attempt"])
    folders = sorted((run / "attempts").glob("[0-9]*"))
    known = [_hardware(folder) for folder in folders]
    for number, folder in enumerate(folders):
        times = [path.stat().st_mtime for name in OWN if (path := folder / name).exists()]
        seconds = max(times) - min(times) if times else 0.0
        has_result, has_failed = int(folder.name) == result, (folder / "failure.json").exists()
        yield Billed(
            outcome="result" if has_result else "failed" if has_failed else "superseded",
            hardware=next(filter(None, [*known[number:], *reversed(known[:number])]), ""),
            seconds=seconds,
            hours=hours_of(config, seconds),
        )


def _hardware(attempt: Path) -> str:
    """Return the hardware that an attempt has recorded; empty if it has not."""
    with contextlib.suppress(UsageError, KeyError, TypeError):
        return str(read_json(attempt / "manifest.json")["hardware"])
    return ""
