"""From an exception to what a run failed of: a cause to group by, and a sentence."""

import torch
import torch.distributed
from safetensors import SafetensorError

from aimv2.errors import Cause, RunFailedError, UsageError


def cause_of(error: BaseException) -> Cause:
    if isinstance(error, RunFailedError):
        return error.cause
    if isinstance(error, KeyboardInterrupt):
        return "time"
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out of memory"
    if isinstance(error, OSError | SafetensorError | torch.distributed.DistError):
        return "node"
    return "data" if isinstance(error, UsageError) else "bug"


def sentence_of(error: BaseException) -> str:
    kind = "" if isinstance(error, ValueError | RunFailedError) else f"{type(error).__name__}: "
    return kind + (str(error).splitlines() or [""])[0]
