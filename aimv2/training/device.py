"""The precision of a run's computation."""

import torch

from aimv2.config.run_config import RunConfig


def autocast(config: RunConfig) -> torch.autocast:
    """Compute matrix products in the run's precision; weights, residual streams, norms and losses stay float32."""
    return torch.autocast(config.device, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")
