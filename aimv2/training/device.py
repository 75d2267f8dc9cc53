"""How a device computes a run: its precision, and whether blocks are compiled."""

import torch

from aimv2.base.hardware import missing_for_compile
from aimv2.config.run_config import RunConfig


def autocast(config: RunConfig) -> torch.autocast:
    """Compute matrix products in the run's precision; weights, residual streams, norms and losses stay float32."""
    return torch.autocast(config.device, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")


def compiles(config: RunConfig) -> bool:
    """True if training compiles the blocks: by ``auto`` on CUDA, if this machine has what it needs."""
    if config.compile != "auto":
        return config.compile
    is_needed = config.attention_kernel == "flex"
    return is_needed or (config.device == "cuda" and missing_for_compile("cuda") is None)
