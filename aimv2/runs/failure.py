"""Failures: their record, and the cause of an exception and a sentence for it."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from aimv2.base.errors import Cause, RunFailedError, UsageError
from aimv2.base.files import read_json
from aimv2.memory import machine

# Parts of messages of torch and the system that mean a lack of memory. CUDA libraries that fail to allocate raise no
# OutOfMemoryError. A lack of shared memory is a bus error of a loader process.
NO_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "Cannot allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "is killed by signal: Bus error",
)
KILLED = ("is killed by signal: Killed",)  # a loader process, by the kernel because memory ran out, or by anybody
NO_SPACE = ("No space left on device", "Disk quota exceeded")  # as strerror writes ENOSPC and EDQUOT
NO_LOADER = ("DataLoader worker (pid",)  # a loader process ended for another reason


@dataclass(frozen=True)
class Failure:
    """The reason why an attempt has no result: a cause by which failures are grouped, and a sentence.

    Attributes:
        cause: ``out of memory``; ``no space``, a disk or a quota is full; ``not finite``, a loss; ``node``, the disk or
            host failed, or the process ended without recording a reason; ``time``, the run was interrupted and resumes
            from its checkpoint; ``data``, an input is missing or broken; ``bug``, anything else; ``lease lost``,
            another process owns the run, so that this is never recorded.
        traceback: where it happened; empty if unknown.
    """

    cause: Cause
    message: str
    traceback: str = field(default="", compare=False, repr=False)


def read_failure(attempt: Path) -> Failure:
    """Return the recorded failure of an attempt, or one that reports that the record is broken."""
    path = attempt / "failure.json"
    with contextlib.suppress(UsageError, KeyError, TypeError):
        recorded = read_json(path)
        if recorded["cause"] in get_args(Cause):
            return Failure(recorded["cause"], str(recorded["message"]), str(recorded["traceback"]))
    return Failure("node", f"the run failed, but {path} does not give a reason: the file is broken")


def cause_of(error: BaseException, run: Path | None = None, *, oom_kills: int = 0) -> Cause:
    """Return the cause under which a failure is grouped (see ``Failure``).

    A missing file in the run's folder is a fault of the node, any other a fault of the data. ``oom_kills`` is what
    ``aimv2.memory.machine.oom_kills`` returned when the work began.
    """
    import torch  # here, so that records of failures can be read without torch
    import torch.distributed
    from safetensors import SafetensorError

    if isinstance(error, RunFailedError):
        return error.cause
    if isinstance(error, KeyboardInterrupt):
        return "time"
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or _mentions(error, NO_MEMORY):
        return "out of memory"
    if _mentions(error, KILLED) and machine.oom_kills() > oom_kills:
        return "out of memory"
    if isinstance(error, OSError) and _mentions(error, NO_SPACE):
        return "no space"
    if isinstance(error, FileNotFoundError):
        # An error from a loader process has no file name; loaders read only data.
        is_named = isinstance(error.filename, str | Path)
        is_of_run = run is not None and is_named and Path(error.filename).absolute().is_relative_to(run.absolute())
        return "node" if is_of_run else "data"
    if isinstance(error, OSError | SafetensorError | torch.distributed.DistError) or _mentions(error, NO_LOADER):
        return "node"
    return "data" if isinstance(error, UsageError) else "bug"


def sentence_of(error: BaseException) -> str:
    """Return the first line of the error's message, with the type's name where the message is not ours."""
    kind = "" if isinstance(error, ValueError | RunFailedError) else f"{type(error).__name__}: "
    return kind + (str(error).splitlines() or [""])[0]


def _mentions(error: BaseException, parts: tuple[str, ...]) -> bool:
    """True for a RuntimeError (torch raises it for nearly everything) or OSError with one of these parts."""
    text = f"{error} {error.__cause__}"  # torch names the signal that killed a loader process in the cause
    return isinstance(error, RuntimeError | OSError) and any(part in text for part in parts)
