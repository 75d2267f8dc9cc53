"""How near training is to the machine's limit, and the memory that it takes.

Letters: B images at once, I patches, D encoder width, F FFN hidden.
"""

import math
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch

from aimv2.config.run_config import RunConfig
from aimv2.memory.training import Setup

STATM = Path("/proc/self/statm")  # sizes of this process in pages
MEASURED_SECONDS = 0.05  # the product is repeated for so long
# Of one product: about 2 ms, so that the fastest repeat is seldom interrupted. Larger ones are not faster.
MAX_FLOPS = {"cpu": 2e8, "cuda": 1e12}


class Rate:
    """Measures the share of the GEMM rate that training reaches, and its memory.

    The GEMM rate is that of a matrix product (``gemm_rate``), measured on this rank when training starts, times the
    number of ranks.

    Args:
        flops: those of the steps before, by ``aimv2.cost.parts.train_flops``.
        clock: seconds.
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
        """Return the values of the rows since the last call.

        Args:
            flops: of all steps so far; activations that are computed again do not count.
            seconds: since the last call, without pauses such as a held-out point.

        Returns:
            ``gemm_share``, useful FLOPs per second divided by the GEMM rate, and ``memory_bytes`` of this rank: the
            peak that torch has allocated on a GPU, or else the resident memory of the process, where the system tells
            it.
        """
        done, self._flops = flops - self._flops, flops
        found = {"gemm_share": done / seconds / self._limit}
        memory = torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else resident_bytes()
        return found if memory is None else found | {"memory_bytes": memory}


def product_shape(config: RunConfig, batch_size: int) -> tuple[int, int, int]:
    """Return rows, inner size and columns of the FFN's first product: B x I, D, and 2F for gate and up together."""
    encoder = config.model.encoder
    return batch_size * config.model.num_patches, encoder.width, 2 * encoder.ffn_hidden


def gemm_rate(config: RunConfig, num_images: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the FLOPs per second of the FFN's first product, on the run's device and in its precision.

    The fastest of the repeats in MEASURED_SECONDS counts, at least three. Where the product would exceed MAX_FLOPS, it
    is made smaller by halving the larger of rows and columns.

    Args:
        num_images: B, images that the network sees at once.
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
