"""Where a run computes, and in which precision."""

import contextlib
import dataclasses

import torch

from aimv2.config import RunConfig
from aimv2.errors import UsageError


def resolve(config: RunConfig) -> RunConfig:
    """Replace ``auto`` by what this machine has, so that a run's name says what it computes.

    Raises:
        UsageError: ``device=cuda`` without a CUDA device.
    """
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device='cuda' and torch sees no CUDA device here; use device=cpu or device=auto")
    precision = config.precision
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" else "float32"
    return dataclasses.replace(config, device=device, precision=precision)


def autocast(config: RunConfig) -> contextlib.AbstractContextManager[None]:
    """Matrix products in the run's precision; weights, norms and losses stay float32."""
    if config.precision == "bfloat16":
        return torch.autocast(config.device, dtype=torch.bfloat16)
    return contextlib.nullcontext()
