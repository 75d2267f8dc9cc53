"""Why a run failed: the record of it, and from an exception to a cause to group by and a sentence."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from aimv2.errors import Cause, RunFailedError, UsageError
from aimv2.runs.files import read_json

# What torch's and the system's messages say: of memory (what CUDA and its libraries allocate themselves is no
# OutOfMemoryError; a loader process is killed by the system when there is none left, and gets a bus error when it is
# shared memory that is missing), and of a loader process that ended otherwise.
NO_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "Cannot allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "is killed by signal: Killed",
    "is killed by signal: Bus error",
)
NO_LOADER = ("DataLoader worker (pid",)


@dataclass(frozen=True)
class Failure:
    """Why an attempt has no result: a short cause to group by, and a sentence.

    Attributes:
        cause: ``out of memory``; ``not finite``; ``node``, the disk or the host, or the process died without a word;
            ``time``, it was asked to stop and goes on from its checkpoint; ``data``, something read is missing or
            broken; ``bug``, anything else; ``lease lost``, which is recorded nowhere, for then another has the run.
        traceback: where it happened; empty where that is not known.
    """

    cause: Cause
    message: str
    traceback: str = field(default="", compare=False, repr=False)


def read_failure(attempt: Path) -> Failure:
    """Why an attempt failed, or that its record of that is broken."""
    path = attempt / "failure.json"
    with contextlib.suppress(UsageError, KeyError, TypeError):
        recorded = read_json(path)
        if recorded["cause"] in get_args(Cause):
            return Failure(recorded["cause"], str(recorded["message"]), str(recorded["traceback"]))
    return Failure("node", f"it failed, and {path} does not say why: the file is broken")


def cause_of(error: BaseException, run: Path | None = None) -> Cause:
    """What to group a failure under (``Failure``).

    Args:
        run: the run's folder, where this process has one: a file that is missing there is the disk's doing, another
            one is data.
    """
    import torch  # here, for records of failures are read where torch is not loaded
    import torch.distributed
    from safetensors import SafetensorError

    if isinstance(error, RunFailedError):
        return error.cause
    if isinstance(error, KeyboardInterrupt):
        return "time"
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or _says(error, NO_MEMORY):
        return "out of memory"
    if isinstance(error, FileNotFoundError) and not (run is not None and _lies_in(error.filename, run)):
        return "data"
    if isinstance(error, OSError | SafetensorError | torch.distributed.DistError) or _says(error, NO_LOADER):
        return "node"
    return "data" if isinstance(error, UsageError) else "bug"


def sentence_of(error: BaseException) -> str:
    kind = "" if isinstance(error, ValueError | RunFailedError) else f"{type(error).__name__}: "
    return kind + (str(error).splitlines() or [""])[0]


def _says(error: BaseException, what: tuple[str, ...]) -> bool:
    """Whether a RuntimeError, which torch raises for nearly everything, or the system's own error is one of these.

    Of a loader process that was killed torch says by what in the error's cause.
    """
    said = f"{error} {error.__cause__}"
    return isinstance(error, RuntimeError | OSError) and any(part in said for part in what)


def _lies_in(filename: object, folder: Path) -> bool:
    """An error that comes from a loader process has lost the name of its file; loaders read nothing but data."""
    return isinstance(filename, str | Path) and Path(filename).absolute().is_relative_to(folder.absolute())
