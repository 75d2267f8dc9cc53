"""The loader processes of a rank, and the memory of the host that its batches take. Nothing here imports torch."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aimv2.config.native import micro_batch_at

if TYPE_CHECKING:
    from aimv2.config.run_config import RunConfig
    from aimv2.memory.prediction import Setup

UINT8, FLOAT32, INT64 = 1, 4, 8  # bytes
PREFETCHED = 2  # micro-batches that each loader process has ready, at least (torch's DataLoader)
MAX_AUTO = 16  # loader processes of a rank: about 5,000 photographs of 500 px a second (benchmarks/results.md)
MAX_HOST_BYTES = 20 * 10**9  # of a rank
PROCESS_BYTES = 600_000_000  # a process with torch, before it has a model; on a GPU, its CUDA context
LOADER_BYTES = 100_000_000  # a loader process without micro-batches; it shares the rest with the training process


@dataclass(frozen=True)
class Loading:
    """How the micro-batches of a rank are prepared.

    Attributes:
        num_workers: loader processes; 0 prepares them in the training process.
        prefetched: micro-batches that each process has ready or is preparing.
    """

    num_workers: int
    prefetched: int

    @property
    def ahead(self) -> int:
        """Micro-batches that all processes have ready or are preparing."""
        return self.num_workers * self.prefetched


def choose_loading(config: RunConfig, setup: Setup, *, cores: int = sys.maxsize, shared: int = sys.maxsize) -> Loading:
    """Return how a rank's micro-batches are prepared.

    ``loader.num_workers=auto`` is 0 on the CPU, whose cores compute. For a GPU it is a process for each core that the
    training process leaves: at most MAX_AUTO, and as many as the host has memory for.

    Args:
        config: with ``device`` resolved.
        cores: those of the rank.
        shared: bytes of shared memory for the rank, through which micro-batches come from processes.
    """
    num_parts, part = max(_steps(config, setup))
    given = config.loader.num_workers
    if given != "auto":
        return Loading(given, prefetched(num_parts, given))
    most = min(cores - config.threads, MAX_AUTO) if config.device == "cuda" else 0
    for number in range(most, 0, -1):
        found = Loading(number, prefetched(num_parts, number))
        if host_bytes(config, setup, found) <= MAX_HOST_BYTES and number * PREFETCHED * part <= shared:
            return found
    return Loading(0, 0)


def prefetched(num_parts: int, num_workers: int) -> int:
    """Return the micro-batches that each loader process has ready: together those of a step, so that none waits.

    Args:
        num_parts: micro-batches of the rank in a step.
    """
    return max(PREFETCHED, -(-num_parts // num_workers)) if num_workers else 0


def host_bytes(config: RunConfig, setup: Setup, loading: Loading) -> int:
    """Return the bytes of the host that a rank on a GPU takes: its processes and batches, without copies of weights.

    Micro-batches come in shared memory and are copied to page-locked memory, of which torch takes powers of two. The
    rank holds those of a step and those that are ahead, and each process a copy of the one that it prepares.
    """
    batches = max(
        (num_parts + loading.ahead) * (1 << (part - 1).bit_length()) + loading.num_workers * part
        for num_parts, part in _steps(config, setup)
    )
    return PROCESS_BYTES + loading.num_workers * LOADER_BYTES + batches


def image_bytes(config: RunConfig, num_patches: int) -> int:
    """Return the bytes of an image with its caption and indices, as the loader prepares it.

    Pictures of files are uint8, unless patches are hidden in them, and all others float32.
    """
    model, is_hidden = config.model, bool(config.augment.of(config.data).hidden_fraction)
    picture = UINT8 if config.data.kind == "files" else FLOAT32
    image = FLOAT32 if is_hidden else picture
    target = picture if is_hidden or config.data.pixels == "shuffled" else 0
    return num_patches * (model.patch_dim * (image + target) + INT64) + 2 * model.max_text_tokens * INT64


def _steps(config: RunConfig, setup: Setup) -> list[tuple[int, int]]:
    """Return the number of a rank's micro-batches in a step, and the bytes of each, by the area of the images."""
    found = []
    for area in config.native.areas or (config.model.num_patches,):
        share = config.budget.batch_size * config.model.num_patches // area // config.ranks
        size = min(micro_batch_at(area, config, setup.micro_batch), share)
        found.append((-(-share // size), size * image_bytes(config, area)))
    return found
