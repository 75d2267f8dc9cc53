"""The memory of a rank in training, in closed form, of a config with attention, ``device`` and ``precision`` resolved.

The largest moment of a step is looked for in the order of the backward pass, in which saved values are released part by
part while gradients are added. On the CPU the prediction is checked against measured peaks, and for
CUDA and FSDP2 against torch's allocator on a fake GPU (``tests/gpu``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, NamedTuple

from aimv2.config.native import micro_batch_at
from aimv2.config.run_config import RunConfig
from aimv2.config.training_config import NUM_MOMENTS
from aimv2.cost import MAX_LOGITS, Blocks, Part, num_parameters
from aimv2.definitions.objectives import objective

UINT8, BFLOAT16, FLOAT32, INT64 = 1, 2, 4, 8  # bytes
PROCESS_BYTES = 600_000_000  # a process with torch, before it has a model; on a GPU, its CUDA context
PREFETCHED = 2  # micro-batches that each loader process has ready, at least (torch's DataLoader)

Parallel = Literal["ddp", "hsdp", "fsdp"]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How the ranks compute a step. It changes memory and speed, and results only by rounding."""

    parallel: Parallel  # ddp: each rank holds all weights; fsdp: a shard of them; hsdp: a shard of its node's copy
    micro_batch: int  # images that a rank computes at once
    activation_checkpointing: bool  # True saves the inputs of blocks alone, and computes the rest again in backward


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that a rank holds at the largest moment of a training step."""

    weights: int  # those that the rank holds, float32, as moments are
    gradients: int  # those that exist at that moment, float32
    moments: int
    copies: int  # in bfloat16 for autocast; with fsdp unsharded weights and gradients, and buffers to send them
    activations: int  # values saved for the backward pass, and those that it computes
    batch: int  # on the CPU all micro-batches of a step, with those that loaders have ready; a GPU holds one
    process: int  # without a run

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


class _Moment(NamedTuple):
    """Bytes at a moment of the backward pass; ``copies`` are those that exist at this moment only."""

    activations: float
    gradients: float
    copies: float = 0


def predict(config: RunConfig, setup: Setup, parts: Sequence[Part] | None = None) -> Memory:
    """Return the memory of a rank, if every caption has the maximal length and images the area that takes the most."""
    if config.native.areas:
        return max((_predict_area(config, setup, area) for area in config.native.areas), key=lambda one: one.total)
    parts = objective(config.objective.name).cost(config) if parts is None else parts
    return _predict(config, setup, parts, config.model.num_patches)


def _predict_area(config: RunConfig, setup: Setup, area: int) -> Memory:
    """Return the memory of a rank at a step whose images have at most this number of patches."""
    parts = objective(config.objective.name).cost(config, area=area)
    num_images = config.budget.batch_size * config.model.num_patches // area
    step = replace(
        config,
        native=replace(config.native, areas=()),
        budget=replace(config.budget, samples=0, batch_size=num_images),
    )
    setup = replace(setup, micro_batch=micro_batch_at(area, config, setup.micro_batch))
    return _predict(step, setup, parts, area)


def _predict(config: RunConfig, setup: Setup, parts: Sequence[Part], num_patches: int) -> Memory:
    divisor = {"ddp": 1, "hsdp": min(config.ranks, config.ranks_per_node), "fsdp": config.ranks}[setup.parallel]
    held = FLOAT32 * num_parameters(parts) / divisor
    trained = FLOAT32 * num_parameters(part for part in parts if not part.is_frozen) / divisor
    step = _Step(config, setup, parts, divisor)
    largest = max(step.moments(trained), key=sum)
    return Memory(
        weights=round(held),
        gradients=round(largest.gradients),
        moments=round(NUM_MOMENTS * trained),
        copies=round(step.copies + largest.copies),
        activations=round(largest.activations),
        batch=_batch_bytes(config, setup, num_patches),
        process=PROCESS_BYTES,
    )


class _Step:
    """A step of a rank, micro-batch by micro-batch; ``divisor`` ranks hold one copy of the weights together."""

    def __init__(self, config: RunConfig, setup: Setup, parts: Sequence[Part], divisor: int) -> None:
        self._config, self._setup, self._divisor = config, setup, divisor
        self._is_sharded = divisor > 1
        # In the order of the forward pass: the pixel loss is computed last.
        self._parts = sorted(parts, key=lambda part: part.name == "pixel head")
        self._value = BFLOAT16 if config.precision == "bfloat16" else FLOAT32
        self._outside = [part.parameters - _of_blocks(part) for part in self._parts]  # parameters
        self._accumulates = setup.micro_batch < config.budget.batch_size // config.ranks

    @property
    def copies(self) -> float:
        """Bytes of copies of weights that a micro-batch holds to the end."""
        # Products read all weights but those of embeddings, which other parts have.
        of_blocks = sum(map(_of_blocks, self._parts)) - self._copied_in_forward
        others = sum(part.parameters for part in self._parts if part.blocks is None)
        if not self._is_sharded:
            return self._cast(of_blocks + others)
        # The root's weights and gradients are whole from the forward pass to the end. Blocks have the weights of two
        # (this and the next one), the buffer of their all-gather and gradients in the precision of products, and the
        # buffer of their reduce-scatter.
        of_block = (4 * self._value + FLOAT32) * self._largest_block
        return self._cast(others) + FLOAT32 * 2 * sum(self._outside) + of_block

    @property
    def _copied_in_forward(self) -> int:
        """Parameters of which autocast has copies in the forward pass only: the backward pass makes those of one block
        after the other again. Shards are sent as such copies."""
        if not self._setup.activation_checkpointing or self._is_sharded:
            return 0
        return sum(map(_of_blocks, self._parts)) - self._largest_block

    @property
    def _largest_block(self) -> int:
        return max(part.blocks.parameters for part in self._parts if part.blocks)

    def _cast(self, num_parameters: int) -> float:
        return BFLOAT16 * num_parameters if self._value < FLOAT32 else 0

    def moments(self, held: float) -> Iterator[_Moment]:
        """Yield the moments that may be the largest: at the end of the forward pass, and of the backward pass."""
        saved, gradients = sum(map(self._saved, self._parts)), 0.0
        for now in (self._in_last_block(), saved):
            yield _Moment(now, self._now(gradients, held), self._cast(self._copied_in_forward))
        for part, outside in zip(reversed(self._parts), reversed(self._outside), strict=True):
            if part.is_frozen:  # no backward pass
                saved -= self._saved(part)
                continue
            new = FLOAT32 * outside  # gradients, which are added to the old ones if there are any
            if part.blocks is None:
                work = max(self._working(part), 0 if self._is_sharded else new)
                yield _Moment(saved + work, self._now(gradients, held))
                saved, gradients = saved - self._saved(part), gradients + new
                continue
            after = FLOAT32 * self._setup.micro_batch * part.blocks.after
            for number in (part.blocks.number, 1):  # of the blocks whose backward pass is not done
                done = FLOAT32 * (part.blocks.number - number) * part.blocks.parameters
                gone = (part.blocks.number - number) * self._kept(part.blocks)
                yield _Moment(saved - after - gone + self._in_block(part.blocks), self._now(gradients + done, held))
            saved, gradients = saved - self._saved(part), gradients + FLOAT32 * _of_blocks(part)
            yield _Moment(saved + (0 if self._is_sharded else new), self._now(gradients, held))
            gradients += new
        yield _Moment(0, held, FLOAT32 * sum(self._outside) if self._is_sharded else 0)  # the root's reduce-scatter
        yield from self._balance(held)

    def _balance(self, held: float) -> Iterator[_Moment]:
        """Yield the moment at which the gradients of two losses on the decoder's blocks are compared, at some steps.

        The activations stay for the second loss, and the weights have no gradients yet but DDP's buckets.
        """
        shared = {part.module: part.blocks for part in self._parts}.get("decoder")
        names = {part.name for part in self._parts}
        if shared is None or self._is_sharded or not names >= {"pixel head", "text head"}:
            return
        gradients, buckets = FLOAT32 * shared.number * shared.parameters, held if self._config.ranks > 1 else 0
        saved = sum(map(self._saved, self._parts))
        computed = self._in_block(shared)
        if not self._setup.activation_checkpointing:
            computed += self._released(shared)  # which stay
        # Of earlier micro-batches there are two sums and the last gradient. A gradient comes in parts, block by block,
        # and as a whole; the first one is there in both forms.
        sums = 3 if self._accumulates else 0
        yield _Moment(saved + computed, buckets, (sums + 3 - 1 / shared.number) * gradients)
        yield _Moment(saved, buckets, (sums + 3) * gradients)

    def _now(self, gradients: float, held: float) -> float:
        # DDP's buckets hold all gradients from the start on, and so does every micro-batch but the first.
        has_buckets = self._config.ranks > 1 and not self._is_sharded
        return held if has_buckets or self._accumulates else gradients / self._divisor

    def _saved(self, part: Part) -> float:
        """Return the bytes of a part that are saved from the forward to the backward pass of a micro-batch."""
        if part.is_frozen:  # its blocks save nothing
            return FLOAT32 * self._images(part) * part.saved
        exact = part.saved - part.saved_in_product - (part.blocks.number * part.blocks.saved if part.blocks else 0)
        saved = self._images(part) * (FLOAT32 * exact + self._value * part.saved_in_product)
        saved += FLOAT32 * self._of_tokens(part.saved_per_token)
        return saved if part.blocks is None else saved + part.blocks.number * self._kept(part.blocks)

    def _kept(self, blocks: Blocks) -> float:
        """Return the saved bytes of a block that is not computed now."""
        if self._setup.activation_checkpointing:
            stream = self._value if self._config.residual == "bfloat16" else FLOAT32
            return stream * self._setup.micro_batch * blocks.input
        return self._of_block(blocks)

    def _of_block(self, blocks: Blocks) -> float:
        """Return the saved bytes of a block. What its two norms read is always float32."""
        exact = 2 * blocks.input
        return self._setup.micro_batch * (FLOAT32 * exact + self._value * (blocks.saved - exact))

    def _in_last_block(self) -> float:
        """Return the bytes that the last block holds at once in the forward pass, and those saved before it."""
        stacks = [part for part in self._parts if part.blocks]
        hidden = max(self._working_in(part.blocks) + self._released(part.blocks) for part in stacks if part.blocks)
        return sum(map(self._saved, stacks)) + hidden

    def _in_block(self, blocks: Blocks) -> float:
        """Return the bytes besides the saved ones that the backward pass of a block holds at once."""
        again = self._of_block(blocks) - self._kept(blocks)  # with activation checkpointing; it includes the input
        return again + self._working_in(blocks)

    def _working_in(self, blocks: Blocks) -> float:
        return self._setup.micro_batch * (FLOAT32 * blocks.input + self._value * (blocks.working - blocks.input))

    def _released(self, blocks: Blocks) -> float:
        return self._setup.micro_batch * self._value * blocks.released

    def _working(self, part: Part) -> float:
        return FLOAT32 * (self._images(part) * part.working + self._of_tokens(part.working_per_token))

    def _images(self, part: Part) -> int:
        return self._config.budget.batch_size if part.is_of_batch else self._setup.micro_batch

    def _of_tokens(self, per_token: float) -> float:
        """Return the values of the supervised tokens, of which a part has its logits at once."""
        model = self._config.model
        num_tokens = self._setup.micro_batch * model.max_text_tokens
        without = max(num_tokens - MAX_LOGITS // model.vocab_size, 0)
        return num_tokens * per_token - without * model.vocab_size * (per_token // model.vocab_size)


def _of_blocks(part: Part) -> int:
    """Return the parameters of a part's blocks."""
    return 0 if part.blocks is None else part.blocks.number * part.blocks.parameters


def _batch_bytes(config: RunConfig, setup: Setup, num_patches: int) -> int:
    model, augment = config.model, config.augment.of(config.data)
    has_target = bool(augment.hidden_fraction) or config.data.pixels == "shuffled"
    pixels = (1 + has_target) * num_patches * model.patch_dim * FLOAT32
    if config.device == "cuda":
        return setup.micro_batch * (pixels + num_patches * INT64 + 2 * model.max_text_tokens * INT64)
    share, num_workers = config.budget.batch_size // config.ranks, config.loader.num_workers
    ahead = 0 if num_workers == "auto" else num_workers * prefetched(-(-share // setup.micro_batch), num_workers)
    normalised = setup.micro_batch * pixels if config.data.kind == "files" else 0
    return (share + setup.micro_batch * ahead) * image_bytes(config, num_patches) + normalised


def image_bytes(config: RunConfig, num_patches: int) -> int:
    """Return the bytes of an image with its caption and indices, as the loader prepares it: uint8 for pictures of files
    without hidden patches, and float32 for all others."""
    model, is_hidden = config.model, bool(config.augment.of(config.data).hidden_fraction)
    picture = UINT8 if config.data.kind == "files" else FLOAT32
    image = FLOAT32 if is_hidden else picture
    target = picture if is_hidden or config.data.pixels == "shuffled" else 0
    return num_patches * (model.patch_dim * (image + target) + INT64) + 2 * model.max_text_tokens * INT64


def prefetched(num_parts: int, num_workers: int) -> int:
    """Return the micro-batches that each loader process has ready: together those of a step, so that none waits."""
    return max(PREFETCHED, -(-num_parts // num_workers)) if num_workers else 0
