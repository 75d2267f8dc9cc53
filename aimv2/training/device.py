"""How a device computes a run: its precision, compiled blocks, and the share of its speed that training reaches."""

import math
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from aimv2.base.hardware import missing_for_compile
from aimv2.config.run_config import RunConfig
from aimv2.memory.training import Setup
from aimv2.model.layers import Stack

STATM = Path("/proc/self/statm")  # sizes of this process in pages
MEASURED_SECONDS = 0.05  # the product is repeated for so long
# Of one product: about 2 ms, so that the fastest repeat is seldom interrupted. Larger ones are not faster.
MAX_FLOPS = {"cpu": 2e8, "cuda": 1e12}


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
    is_needed = config.attention_kernel == "flex"
    return is_needed or (config.device == "cuda" and missing_for_compile("cuda") is None)


class Rate:
    """Measures the share of the GEMM rate that training reaches, and its memory.

    The GEMM rate is that of a matrix product (``gemm_rate``), measured on this rank when training starts, times the
    number of ranks.
    """

    def __init__(
        self, config: RunConfig, setup: Setup, *, flops: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._limit = config.ranks * gemm_rate(config, setup.micro_batch, clock)
        self._flops = flops
        self._device = torch.device(config.device)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def columns(self, flops: int, seconds: float) -> dict[str, float]:
        """Return the values of the rows since the last call."""
        done, self._flops = flops - self._flops, flops
        share = {"gemm_share": done / seconds / self._limit}
        memory = torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else resident_bytes()
        return share if memory is None else share | {"memory_bytes": memory}


def product_shape(config: RunConfig, batch_size: int) -> tuple[int, int, int]:
    """Return rows, inner size and columns of the FFN's first product: B x I, D, and 2F for gate and up together."""
    encoder = config.model.encoder
    return batch_size * config.model.num_patches, encoder.width, 2 * encoder.ffn_hidden


def gemm_rate(config: RunConfig, num_images: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the FLOPs per second of the FFN's first product, on the run's device and in its precision.

    The fastest of the repeats in MEASURED_SECONDS counts, at least three. Where the product would exceed MAX_FLOPS, it
    is made smaller by halving the larger of rows and columns.
    """
    rows, width, columns = product_shape(config, num_images)
    while 2 * rows * width * columns > MAX_FLOPS[config.device]:
        rows, columns = (rows // 2, columns) if rows >= columns else (rows, columns // 2)
    dtype = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(rows, width, generator=generator).to(config.device, dtype)
    right = torch.randn(columns, width, generator=generator).to(config.device, dtype).T  # as in a linear layer

    def now() -> float:
        if config.device == "cuda":
            torch.cuda.synchronize()
        return clock()

    times: list[float] = []
    while len(times) < 3 or sum(times) < MEASURED_SECONDS:
        start = now()
        torch.mm(left, right)
        times.append(now() - start)
    return 2 * math.prod((rows, width, columns)) / min(times)


def resident_bytes(statm: Path = STATM) -> int | None:
    """Return the resident memory of this process; None on systems without Linux's ``/proc``."""
    return int(statm.read_text().split()[1]) * resource.getpagesize() if statm.exists() else None
