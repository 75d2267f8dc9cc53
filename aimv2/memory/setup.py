"""The memory that a training step takes, and how a run is set up to fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from aimv2.config.run_config import RunConfig


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How the ranks compute a step. It changes memory and speed, and results only by rounding.

    Attributes:
        parallel: ``ddp``, each rank holds all weights, or ``fsdp``, a shard of them.
        micro_batch: images that a rank computes at once.
        activation_checkpointing: True saves the inputs of blocks alone, and computes the rest again in backward.
    """

    parallel: Literal["ddp", "fsdp"]
    micro_batch: int
    activation_checkpointing: bool


def setup_of(config: RunConfig) -> Setup:
    """Return the setup of a run."""
    share = config.budget.batch_size // config.ranks
    return Setup(
        parallel="fsdp" if config.parallel == "fsdp" else "ddp",
        micro_batch=share if config.micro_batch == "auto" else min(config.micro_batch, share),
        activation_checkpointing=config.activation_checkpointing is True,
    )
