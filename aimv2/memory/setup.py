"""The choice of how a run computes its steps, so that they fit the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from aimv2.base.errors import UsageError
from aimv2.memory.loading import MAX_HOST_BYTES, Loading, choose_loading, host_bytes
from aimv2.memory.machine import rank_cores, rank_memory, rank_shared_memory
from aimv2.memory.prediction import Memory, Parallel, Setup, predict
from aimv2.spec.objectives import objective

if TYPE_CHECKING:
    from aimv2.config.run_config import RunConfig
    from aimv2.cost.parts import Part

FEW = 16  # images that a rank should compute at once; fewer leave a GPU idle
USABLE = 0.9  # of the memory: evaluation has its own peak, allocators leave gaps, and libraries have buffers


@dataclass(frozen=True)
class Choice:
    """A setup, its predicted memory, and the bytes that may be used."""

    setup: Setup
    memory: Memory
    usable: int

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.usable


def setup_of(config: RunConfig, available: int | None = None) -> Setup:
    """Return the setup of a run: its own values, and for ``auto`` those of ``choose``.

    Args:
        config: with attention, ``device`` and ``precision`` resolved.
        available: bytes of memory of each rank; None is that of this machine, read only if there is an ``auto``.

    Raises:
        UsageError: no micro-batch fits. A given ``micro_batch`` is not refused.
    """
    parallel, size, saves_inputs = config.parallel, config.micro_batch, config.activation_checkpointing
    if parallel != "auto" and size != "auto" and saves_inputs != "auto":
        return Setup(parallel=parallel, micro_batch=size, activation_checkpointing=saves_inputs)
    if available is None:
        available = rank_memory(config)
    choice = choose(config, available)
    if not choice.fits and size == "auto" and config.budget.samples:
        raise UsageError(_refusal(config, choice, available))
    return choice.setup


def loading_of(config: RunConfig, setup: Setup) -> Loading:
    """Return how this machine prepares the batches of a rank: with ``loader.num_workers``, or as ``choose_loading``.

    Raises:
        UsageError: on a GPU, they take more than MAX_HOST_BYTES of the host.
    """
    loading = choose_loading(config, setup, cores=rank_cores(config), shared=rank_shared_memory(config))
    held = host_bytes(config, setup, loading) if config.device == "cuda" and config.budget.samples else 0
    if held > MAX_HOST_BYTES:
        raise UsageError(
            f"the host would hold {held / 1e9:.1f} GB for each rank with {loading.num_workers} loader processes, more"
            f" than {MAX_HOST_BYTES / 1e9:.0f} GB; use loader.num_workers=auto, more ranks or a smaller batch"
        )
    return loading


def choose(config: RunConfig, available: int) -> Choice:
    """Return the setup that is predicted to be the fastest of those that fit.

    The micro-batch is the largest divisor of the rank's share of a batch that fits, so that all micro-batches are
    equal. With whole weights (``ddp``) and all activations, at least FEW images should fit, or the share if it is
    smaller, or the given ``micro_batch``. If not, these are tried in turn: shards of the weights (``fsdp``), which move
    more data; activation checkpointing, which computes the blocks' forward pass twice; both. If FEW never fit, the
    largest number is taken.

    Args:
        available: bytes of memory of each rank.

    Returns:
        the setup of the smallest memory if none fits.
    """
    share = config.budget.batch_size // config.ranks
    sizes = _divisors(share) if config.micro_batch == "auto" else [min(config.micro_batch, share)]
    enough = min(FEW, share) if config.micro_batch == "auto" else sizes[0]
    checkpointing = (False, True) if config.activation_checkpointing == "auto" else (config.activation_checkpointing,)
    parallels: tuple[Parallel, ...] = ("ddp", "fsdp") if config.ranks > 1 else ("ddp",)
    if config.parallel != "auto":
        parallels = (config.parallel,)
    parts, found = objective(config.objective.name).cost(config), []
    for saves_inputs, parallel in product(checkpointing, parallels):
        setup = Setup(parallel=parallel, micro_batch=share, activation_checkpointing=saves_inputs)
        choice = _largest(config, setup, sizes, parts, int(USABLE * available))
        if choice.fits and choice.setup.micro_batch >= enough:
            return choice
        found.append(choice)
    return max(found, key=lambda one: (one.fits, one.setup.micro_batch if one.fits else -one.memory.total))


def _largest(config: RunConfig, setup: Setup, sizes: Sequence[int], parts: Sequence[Part], usable: int) -> Choice:
    """Return the setup with the first of these micro-batches that fits, or else the last."""
    for size in sizes:
        setup = replace(setup, micro_batch=size)
        choice = Choice(setup, predict(config, setup, parts), usable)
        if choice.fits:
            break
    return choice


def resolved(config: RunConfig, setup: Setup) -> RunConfig:
    """Return the run with the values of a setup in the place of ``auto``; its name stays the same."""
    return replace(config, **asdict(setup))


def _divisors(number: int) -> list[int]:
    """Return the divisors of a number, the largest first."""
    return [size for size in range(number, 0, -1) if number % size == 0]


def _refusal(config: RunConfig, choice: Choice, available: int) -> str:
    size, memory, ranks = choice.setup.micro_batch, choice.memory, config.ranks
    kinds = ", ".join(f"{kind} {part / 1e9:.1f}" for kind, part in asdict(memory).items() if part >= 0.05e9)
    how = f" on each of {ranks} ranks with parallel={choice.setup.parallel}" if ranks > 1 else ""
    if choice.setup.activation_checkpointing:
        how += f" {'and' if how else 'with'} activation checkpointing"
    return (
        f"no micro-batch fits: {size} image{'s' * (size > 1)}{how} take{'s' * (size == 1)} {memory.total / 1e9:.1f} GB"
        f" ({kinds}), and {USABLE:.0%} of {available / 1e9:.1f} GB can be used; use more ranks or a device with more"
        " memory"
    )
