"""The precision of a run's computation."""

import contextlib

import torch

from aimv2.config.run_config import RunConfig


def autocast(config: RunConfig) -> contextlib.AbstractContextManager[None]:
    """Compute matrix products in the run's precision; weights, residual streams, norms and losses stay float32."""
    if config.precision == "bfloat16":
        return torch.autocast(config.device, dtype=torch.bfloat16)
    return contextlib.nullcontext()
