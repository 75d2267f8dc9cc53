"""What the attempts at a run took, those without a result too, for the bill of a study."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json
from aimv2.config.run_config import RunConfig

Outcome = Literal["result", "failed", "superseded"]

OWN = ("holder.json", "heartbeat", "released")  # what an attempt writes first and last


class Billed(NamedTuple):
    """An attempt.

    Attributes:
        outcome: ``result`` of the one whose result is the run's; ``failed``, with a recorded reason; ``superseded``:
            interrupted or lost, so that a later attempt resumed the run or started it again, or still running.
        hardware: as its manifest has it; empty if it ended before it wrote one.
        seconds: of wall time that it held its resources.
        gpu_hours: of all ranks; 0 on the CPU.
        core_hours: of the threads and given loader processes of all ranks; 0 on a GPU, which a price includes.
    """

    outcome: Outcome
    hardware: str
    seconds: float
    gpu_hours: float
    core_hours: float


def cores_of(config: RunConfig) -> int:
    """Return the cores of all ranks: threads and given loader processes."""
    loaders = 0 if config.loader.num_workers == "auto" else config.loader.num_workers
    return config.ranks * (config.threads + loaders)


def billed(run: Path, config: RunConfig) -> Iterator[Billed]:
    """Yield every attempt at a run, in order.

    Times are those of the files that an attempt writes first and last, by the one clock of their file system.
    """
    result = 0
    with contextlib.suppress(UsageError, KeyError, TypeError, ValueError):
        result = int(read_json(run / "result.json")["attempt"])
    for folder in sorted((run / "attempts").glob("[0-9]*")):
        times = [path.stat().st_mtime for name in OWN if (path := folder / name).exists()]
        seconds = max(times) - min(times) if times else 0.0
        hours, is_gpu = seconds / 3600, config.device == "cuda"
        has_result, has_failed = int(folder.name) == result, (folder / "failure.json").exists()
        yield Billed(
            outcome="result" if has_result else "failed" if has_failed else "superseded",
            hardware=_hardware(folder),
            seconds=seconds,
            gpu_hours=hours * config.ranks * is_gpu,
            core_hours=hours * cores_of(config) * (not is_gpu),
        )


def _hardware(attempt: Path) -> str:
    with contextlib.suppress(UsageError, KeyError, TypeError):
        return str(read_json(attempt / "manifest.json")["hardware"])
    return ""
