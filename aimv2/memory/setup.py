"""The choice of how a run computes its steps and prepares its batches, so that they fit the memory."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import NamedTuple, Self

from aimv2.base.errors import UsageError
from aimv2.config.native import micro_batch_at
from aimv2.config.run_config import RunConfig
from aimv2.cost import Part
from aimv2.definitions.objectives import objective
from aimv2.memory.evaluation import EvaluationMemory, predict_evaluation
from aimv2.memory.machine import rank_cores, rank_memory, rank_shared_memory, ranks_here
from aimv2.memory.training import PREFETCHED, Memory, Parallel, Setup, image_bytes, predict, prefetched

FEW = 16  # images that a rank should compute at once; fewer leave a GPU idle
# Tokens and patches of a micro-batch whose backward pass hides the exchange of all gradients between nodes: 8 bytes per
# parameter at 50 GB/s (400 Gbit/s for each GPU) take as long as 4 FLOPs per parameter and token at 400 TFLOP/s.
HIDING = 16_000
MAX_LOADERS = 16  # of a rank: about 5,000 photographs of 500 px a second (benchmarks/results.md)
USABLE = 0.9  # of the memory: allocators leave gaps, and libraries have buffers


@dataclass(frozen=True)
class Choice:
    """A setup, the memory predicted for training and for the final evaluation, and the bytes that may be used."""

    setup: Setup
    memory: Memory
    evaluation: EvaluationMemory
    usable: int

    @property
    def trains(self) -> bool:
        """True if training fits."""
        return self.memory.total <= self.usable

    @property
    def fits(self) -> bool:
        """True if training and the evaluation fit."""
        return self.needed <= self.usable

    @property
    def needed(self) -> int:
        """Return the bytes of the largest moment of the run."""
        return max(self.memory.total, self.evaluation.device)


class Available(NamedTuple):
    """Bytes that a rank has: of its device's memory, and of the disk for temporary files."""

    device: int
    files: int

    @classmethod
    def on_this_machine(cls, config: RunConfig) -> Self:
        return cls(rank_memory(config), shutil.disk_usage(tempfile.gettempdir()).free // ranks_here(config))


def setup_of(config: RunConfig, available: int | None = None) -> Setup:
    """Return the setup of a run: its own values, and for ``auto`` those of ``choose``.

    It is refused if no micro-batch fits. ``available`` is each rank's memory in bytes; None is that of this machine.
    """
    parallel, size, saves_inputs = config.parallel, config.micro_batch, config.activation_checkpointing
    if parallel != "auto" and size != "auto" and saves_inputs != "auto":
        return Setup(parallel=parallel, micro_batch=size, activation_checkpointing=saves_inputs)
    if available is None:
        available = rank_memory(config)
    choice = choose(config, available)
    if not choice.trains and size == "auto" and config.budget.samples:
        raise UsageError(_refusal(config, choice, available))
    return choice.setup


def check_evaluation(config: RunConfig, here: Available | None = None) -> None:
    """Refuse a run whose final evaluation is predicted not to fit this machine, before it trains."""
    needed, here = predict_evaluation(config), here or Available.on_this_machine(config)
    device = "GPU memory" if config.device == "cuda" else "memory"
    for what, size, left, remedy in (
        (device, needed.device, USABLE * here.device, "use a device with more"),
        ("temporary files", needed.files, here.files, "set TMPDIR to a folder on a larger disk"),
    ):
        if size > left:
            raise UsageError(
                f"the final evaluation does not fit: it takes {size / 1e9:.1f} GB of {what} on each rank, and"
                f" {left / 1e9:.1f} GB can be used; {remedy}"
            )


@dataclass(frozen=True)
class Loading:
    """How the micro-batches of a rank are prepared."""

    num_workers: int  # loader processes; 0 prepares them in the training process
    prefetched: int  # micro-batches that each process has ready or is preparing

    @property
    def ahead(self) -> int:
        """Micro-batches that all processes have ready or are preparing."""
        return self.num_workers * self.prefetched


def loading_of(config: RunConfig, setup: Setup, cores: int | None = None, shared: int | None = None) -> Loading:
    """Return how a rank's micro-batches are prepared.

    ``loader.num_workers=auto`` is 0 on the CPU, whose cores compute. For a GPU it is a process for each core that the
    training process leaves: at most MAX_LOADERS, and as many as shared memory holds micro-batches for.
    """
    num_parts, part = max(_micro_batches(config, setup))
    number = 0
    if config.loader.num_workers != "auto":
        number = config.loader.num_workers
    elif config.device == "cuda":
        cores = rank_cores(config) if cores is None else cores
        shared = rank_shared_memory(config) if shared is None else shared
        number = max(min(cores - config.threads, MAX_LOADERS, shared // (PREFETCHED * part)), 0)
    return Loading(number, prefetched(num_parts, number))


def _micro_batches(config: RunConfig, setup: Setup) -> list[tuple[int, int]]:
    """Return the number of a rank's micro-batches in a step, and the bytes of each, by the area of the images."""
    numbers = []
    for area in config.native.areas or (config.model.num_patches,):
        share = config.budget.batch_size * config.model.num_patches // area // config.ranks
        size = min(micro_batch_at(area, config, setup.micro_batch), share)
        numbers.append((-(-share // size), size * image_bytes(config, area)))
    return numbers


def choose(config: RunConfig, available: int) -> Choice:
    """Return the setup that is predicted to be the fastest of those that fit, or that of the smallest memory.

    The micro-batch is the largest divisor of the rank's share of a batch that fits, so that all micro-batches are
    equal. With whole weights (``ddp``) and all activations, at least FEW images should fit, or the share if it is
    smaller, or the given ``micro_batch``; between the GPUs of whole nodes, as many as hide the exchange of gradients.
    If not, these are tried in turn: shards of a copy on each node (``hsdp``), if there are several; shards of one copy
    (``fsdp``), which move more data; activation checkpointing, which computes the blocks' forward pass twice; both. If
    FEW never fit, the largest number is taken.
    """
    share = config.budget.batch_size // config.ranks
    sizes = [size for size in range(share, 0, -1) if share % size == 0]
    if config.micro_batch != "auto":
        sizes = [min(config.micro_batch, share)]
    enough = min(FEW, share) if config.micro_batch == "auto" else sizes[0]
    checkpointing = (False, True) if config.activation_checkpointing == "auto" else (config.activation_checkpointing,)
    parallels, per_image = _parallels(config), config.model.num_patches + config.model.max_text_tokens
    crosses_nodes = config.device == "cuda" and "hsdp" in parallels and "ddp" in parallels
    parts, found = objective(config.objective.name).cost(config), []
    for saves_inputs, parallel in product(checkpointing, parallels):
        setup = Setup(parallel=parallel, micro_batch=share, activation_checkpointing=saves_inputs)
        choice = _largest(config, setup, sizes, parts, int(USABLE * available))
        waits = crosses_nodes and parallel == "ddp" and choice.setup.micro_batch * per_image < HIDING
        if choice.trains and choice.setup.micro_batch >= enough and not waits:
            return choice
        found.append(choice)
    return max(found, key=lambda one: (one.trains, one.setup.micro_batch if one.trains else -one.memory.total))


def _parallels(config: RunConfig) -> tuple[Parallel, ...]:
    """Return how the ranks may hold the weights, in the order in which it is tried."""
    if config.parallel != "auto":
        return (config.parallel,)
    if config.ranks == 1:
        return ("ddp",)
    has_whole_nodes = config.ranks > config.ranks_per_node and not config.ranks % config.ranks_per_node
    return ("ddp", "hsdp", "fsdp") if has_whole_nodes else ("ddp", "fsdp")


def _largest(config: RunConfig, setup: Setup, sizes: Sequence[int], parts: Sequence[Part], usable: int) -> Choice:
    """Return the setup with the first of these micro-batches that fits, or else the last."""
    evaluation = predict_evaluation(config)
    for size in sizes:
        setup = replace(setup, micro_batch=size)
        choice = Choice(setup, predict(config, setup, parts), evaluation, usable)
        if choice.trains:
            break
    return choice


def resolved(config: RunConfig, setup: Setup) -> RunConfig:
    """Return the run with the values of a setup in the place of ``auto``; its name stays the same."""
    return replace(config, **asdict(setup))


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
