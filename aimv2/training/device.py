"""How a device computes a run, its precision and compiled blocks, and the memory that is taken."""

import resource
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from aimv2.config.run_config import RunConfig
from aimv2.memory.machine import missing_for_compile
from aimv2.model.layers import Stack

STATM = Path("/proc/self/statm")  # sizes of this process in pages


class Computation(Protocol):
    """Where and how a network is computed: a run's config, or an evaluation of any weights."""

    @property
    def device(self) -> str: ...

    @property
    def precision(self) -> str: ...


def autocast(computation: Computation) -> torch.autocast:
    """Compute matrix products in this precision; weights, norms, losses and, unless the run says
    otherwise, residual streams stay float32."""
    return torch.autocast(computation.device, dtype=torch.bfloat16, enabled=computation.precision == "bfloat16")


@torch.no_grad()
def hold_half_(network: nn.Module, computation: Computation) -> None:
    """Hold the weights of blocks only as a device in bfloat16 computes products with them, in place.

    Autocast would round them to the same values at every use, and copy them. Half of the memory of a large network is
    so free for its evaluation; outside of autocast it cannot be used any more.
    """
    if computation.device == "cpu" or computation.precision != "bfloat16":
        return
    for stack in network.modules():
        for weight in stack.parameters() if isinstance(stack, Stack) else ():
            if weight.ndim == 2:  # not the gains of norms
                weight.data = weight.data.bfloat16()


def set_float32_products(config: RunConfig) -> None:
    """Compute this process's products of float32 matrices in TF32 if the run says so, and exactly otherwise.

    By this call and not by ``torch.backends.cuda.matmul.fp32_precision``, after which compilation fails
    (pytorch/pytorch#166387).
    """
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")


def compiles(config: RunConfig) -> bool:
    """True if training compiles the blocks: by ``auto`` on CUDA, if this machine has what it needs."""
    if config.compile != "auto":
        return config.compile
    return config.device == "cuda" and missing_for_compile("cuda") is None


def used_bytes(device: str) -> int | None:
    """Return the most memory that tensors have taken on a GPU, or else ``resident_bytes``."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else resident_bytes()


def resident_bytes(statm: Path = STATM) -> int | None:
    """Return the resident memory of this process; None on systems without Linux's ``/proc``."""
    return int(statm.read_text().split()[1]) * resource.getpagesize() if statm.exists() else None
