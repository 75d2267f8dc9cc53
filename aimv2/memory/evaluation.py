"""The memory of a rank in the final evaluation, in closed form, and how much is computed at once to bound it.

Images and features of all images are on the host or in files; the device has the network, and batches. The numbers at
once are functions of the config alone, so they never depend on the machine. Attention, ``device`` and ``precision`` of
configs are resolved. The prediction is an upper bound, which is checked against measured peaks on the CPU, and on a
fake GPU (``tests/gpu``).
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Self

from aimv2.config.evaluation_config import VALIDATION_SHARE, ProbeConfig
from aimv2.config.model_config import TransformerConfig
from aimv2.config.run_config import RunConfig
from aimv2.cost import MAX_LOGITS, decoder_cost, num_parameters, text_head_cost
from aimv2.data.pairs import IN_MEMORY
from aimv2.definitions.objectives import objective
from aimv2.memory.training import BFLOAT16, FLOAT32, PROCESS_BYTES

MAX_IMAGES = 256  # that are evaluated at once, or captions
MAX_VALUES = 2**27  # of the features and logits of these images, and of those that a probe reads at once
MAX_READ = 2**25  # values of features of which moments and means are computed at once
MAX_PARAMETERS = 2**27  # of the probes that are trained at once
FLOAT16, FLOAT64 = 2, 8  # bytes
MIN_CLASSES = 1000  # that a labelled set is assumed to have
NEIGHBOURS = 1024  # test images whose similarities are computed at once


def saves_half(config: RunConfig) -> bool:
    """True if features are saved in float16, which halves the files: those that a GPU computes in bfloat16, whose
    rounding is larger."""
    return config.device != "cpu" and config.precision == "bfloat16"


def images_at_once(config: RunConfig) -> int:
    """Return how many images, or captions, are evaluated at once: a power of two."""
    model = config.model
    values = model.num_patches * model.encoder.width + model.max_text_tokens * model.vocab_size
    return min(MAX_IMAGES, 1 << max(MAX_VALUES // values, 1).bit_length() - 1)


def features_at_once(num_values: int) -> int:
    """Return of how many images moments and means are computed at once, if an image has so many values."""
    return max(min(MAX_IMAGES, MAX_READ // num_values), 1)


def texts_at_once(config: RunConfig) -> int:
    """Return of how many texts of a step of the reader gradients are computed at once."""
    return max(MAX_READ // (config.model.num_patches * config.model.encoder.width), 1)


@dataclass(frozen=True, kw_only=True)
class ProbeSize:
    """The sizes of attentive probes, and how much of their training is computed at once."""

    num_patches: int
    width: int
    num_heads: int
    num_outputs: int  # classes of all labels of an image
    num_settings: int  # of the grid
    batch_size: int  # images in a step

    @classmethod
    def of(cls, config: ProbeConfig, num_patches: int, width: int, num_outputs: int) -> Self:
        return cls(
            num_patches=num_patches,
            width=width,
            num_heads=max(1, width // config.head_dim),
            num_outputs=num_outputs,
            num_settings=len(list(product(config.learning_rates, config.weight_decays))),
            batch_size=config.batch_size,
        )

    @property
    def num_parameters(self) -> int:
        """Return the parameters of the probe of one setting."""
        return (2 * self.width + 1 + self.num_outputs) * self.width

    @property
    def settings_at_once(self) -> int:
        return max(min(self.num_settings, MAX_PARAMETERS // self.num_parameters), 1)

    @property
    def images_at_once(self) -> int:
        """Return the images of a step whose gradients are computed at once."""
        return max(min(self.batch_size, MAX_VALUES // (self._of_features + self._of_heads)), 1)

    @property
    def guesses_at_once(self) -> int:
        return max(min(MAX_IMAGES, MAX_VALUES // (self._of_features + self._of_heads)), 1)

    @property
    def bytes(self) -> int:
        """Return the bytes of a step: weights, gradients and moments, and the values of images."""
        # The best probe of an earlier group is beside those of all settings.
        held = FLOAT32 * self.num_parameters * (4 * self.settings_at_once + 1)
        # Half of the values of heads are saved for the backward pass, which first computes gradients of the scores.
        outputs = 3 * self.settings_at_once * (self.width + self.num_outputs)
        values = self._of_features + max(self._of_heads, self._of_heads // 2 + outputs)
        at_once = max(self.images_at_once, self.guesses_at_once)
        return held + at_once * (FLOAT16 * self._of_features + FLOAT32 * values)

    @property
    def _of_features(self) -> int:
        """Return the values of an image's features."""
        return self.num_patches * self.width

    @property
    def _of_heads(self) -> int:
        """Return the values per image of the heads that exist at once: scores, weights, mixed features, gradients."""
        return 4 * self.settings_at_once * self.num_heads * (self.num_patches + self.width)


@dataclass(frozen=True, kw_only=True)
class EvaluationMemory:
    """Bytes that a rank holds at the largest moment of the final evaluation."""

    device: int  # the network, and what is computed at once; on the CPU also images and features that are in no files
    files: int  # in the folder for temporary files


def predict_evaluation(config: RunConfig) -> EvaluationMemory:
    """Return the memory of a rank, if every caption has the maximal length."""
    arrays = [*images_of(config), *features_of(config)]
    in_memory = sum(size for size in arrays if size <= IN_MEMORY)
    device = PROCESS_BYTES + _weights(config) + max(computed_at_once(config).values())
    return EvaluationMemory(
        device=device + in_memory * (config.device == "cpu"),
        files=sum(arrays) - in_memory,
    )


def images_of(config: RunConfig) -> list[int]:
    """Return the bytes of each array of images: of pairs, and of the tasks of probes but for emoji and digits."""
    evaluation, data = config.evaluation, config.data
    pairs = [evaluation.num_items, evaluation.num_pairs]  # held-out ones, and those with unseen objects
    pairs += [evaluation.reader.pairs] * bool(evaluation.reader.samples)
    pairs += _probed(evaluation.num_probe_scenes)
    return [3 * number * data.render_px**2 for number in pairs] + [
        3 * evaluation.set_images * config.model.image_px**2 for _ in evaluation.sets
    ]


def features_of(config: RunConfig) -> list[int]:
    """Return the bytes of each array of features that exists at the largest moment: of held-out images, with full and
    causal attention, and of the reader's images or those of a task, which are dropped before the next."""
    evaluation, model = config.evaluation, config.model
    others = [[evaluation.num_pairs], _probed(evaluation.num_probe_scenes)]
    others += [[evaluation.reader.pairs]] * bool(evaluation.reader.samples)
    others += [[evaluation.set_images]] * bool(evaluation.sets)
    value = FLOAT16 if saves_half(config) else FLOAT32
    numbers = [evaluation.num_items, evaluation.num_items, *max(others, key=sum)]
    return [value * number * model.num_patches * model.encoder.width for number in numbers]


def _probed(num_scenes: int) -> list[int]:
    """Return the numbers of training and validation images of a probe on scenes."""
    num_train = round((1 - VALIDATION_SHARE) * num_scenes)
    return [num_train, num_scenes - num_train]


def _weights(config: RunConfig) -> int:
    """Return the bytes of the network as it is evaluated, with the copies that autocast makes."""
    parts = objective(config.objective.name).cost(config)
    in_blocks = sum(part.blocks.number * part.blocks.parameters for part in parts if part.blocks)
    if config.precision != "bfloat16":
        return FLOAT32 * num_parameters(parts)
    if config.device == "cpu":
        return (FLOAT32 + BFLOAT16) * num_parameters(parts)
    # Blocks are held in bfloat16 alone.
    return (FLOAT32 + BFLOAT16) * (num_parameters(parts) - in_blocks) + BFLOAT16 * in_blocks


def computed_at_once(config: RunConfig) -> dict[str, int]:
    """Return the bytes that each part of the evaluation computes at once, besides the network."""
    reports, at_once = objective(config.objective.name).reports, images_at_once(config)
    values = config.model.num_patches * config.model.encoder.width
    parts = {
        "encoding": at_once * _encoding(config),
        "moments": (2 * FLOAT32 + 2 * FLOAT64) * features_at_once(values) * values,
        "neighbours": _neighbours(config),
        "probe": _probe_size(config).bytes,
    }
    if "captions" in reports:
        parts["captions"] = at_once * _captions(config, config.model.decoder)
    if "pixels" in reports:
        parts["pixels"] = at_once * _pixels(config)
    if "retrieval" in reports:
        parts["retrieval"] = at_once * _embedding(config) + _similarities(config)
    if config.evaluation.reader.samples:
        parts["reader"] = _reader(config)
    return parts


def _value(config: RunConfig) -> int:
    return BFLOAT16 if config.precision == "bfloat16" else FLOAT32


def _forward(config: RunConfig, stack: TransformerConfig, length: int) -> int:
    """Return the bytes per image of a forward pass of blocks, which saves nothing."""
    value, width = _value(config), stack.width
    # The input of a block and the sum after attention; what the FFN reads, and its hidden values, or attention's.
    ffn = (3 if stack.ffn == "swiglu" else 2) * stack.ffn_hidden
    return length * (2 * FLOAT32 * width + value * (width + max(ffn, 6 * width)))


def _encoding(config: RunConfig) -> int:
    """Return the bytes per image of the encoder's forward pass, under a causal mask."""
    model = config.model
    patches, width = model.num_patches, model.encoder.width
    mask = patches**2 * (1 + FLOAT32)
    features = (FLOAT32 + FLOAT16 + FLOAT32) * patches * width  # and those of another rank
    return 3 * FLOAT32 * 3 * model.image_px**2 + _forward(config, model.encoder, patches) + mask + features


def _captions(config: RunConfig, decoder: TransformerConfig) -> int:
    """Return the bytes per image and caption of the decoder's forward passes over images, and over captions."""
    model, value = config.model, _value(config)
    patches, text = model.num_patches, 1 + model.max_text_tokens
    features = (FLOAT32 + FLOAT16) * patches * model.encoder.width
    keys = 2 * value * patches * decoder.width  # and values of a block, of an image, of a caption, and with its text
    scores = 2 * FLOAT32 + (value if value < FLOAT32 else 0)  # logits, whole, and the logarithms of probabilities
    logits = model.max_text_tokens * (2 * FLOAT32 * decoder.width + scores * model.vocab_size)
    reading = decoder.depth * keys + _forward(config, decoder, patches)
    writing = 2 * decoder.depth * keys + 2 * keys + max(_forward(config, decoder, text), logits)
    return features + max(reading, writing)


def _pixels(config: RunConfig) -> int:
    model = config.model
    patches = model.num_patches
    length = patches + 1 + model.max_text_tokens * (model.decoder.order == "text_first")
    values = 9 * model.image_px**2 + 5 * patches * model.patch_dim + patches * model.encoder.width
    forward = max(_forward(config, model.encoder, patches), _forward(config, model.decoder, length))
    return FLOAT32 * values + forward


def _embedding(config: RunConfig) -> int:
    """Return the bytes per pair of the forward passes of both encoders; pooling of the features takes less."""
    return max(_encoding(config), _forward(config, config.model.tower.stack, config.model.max_text_tokens))


def _similarities(config: RunConfig) -> int:
    """Return the bytes of the vectors of all pairs, and of their similarities and ranks."""
    number = config.evaluation.num_pairs
    return number * FLOAT32 * (4 * config.model.tower.embed_dim + 3 * number)


def _reader(config: RunConfig) -> int:
    """Return the bytes of a step of the reader, beside which there are those that answer questions; and of captions."""
    options = config.evaluation.reader
    size = options.decoder
    own = replace(config, model=replace(config.model, decoder=size))
    at_once = min(options.batch_size, texts_at_once(config))
    decoder = decoder_cost(own, "reader", "decoder", reads_text=True)
    parameters = num_parameters([decoder, text_head_cost(own, "decoder.text_head")])
    blocks = decoder.blocks
    assert blocks is not None, "a decoder has blocks"
    logits = min(at_once * config.model.max_text_tokens * config.model.vocab_size, MAX_LOGITS)
    # Of images, the last block computes keys and values alone; those of all blocks are copied for each caption.
    patches, length = config.model.num_patches, config.model.num_patches + 1 + config.model.max_text_tokens
    saved = decoder.saved - blocks.saved * patches / length + 2 * options.depth * patches * options.width
    features = (FLOAT16 + 3 * FLOAT32) * patches * config.model.encoder.width  # half, whole and standardised
    step = at_once * (features + FLOAT32 * saved) + max((3 * FLOAT32 + BFLOAT16) * logits, at_once * blocks.working)
    held = (6 * FLOAT32 + BFLOAT16) * parameters  # weights, gradients and moments, and two other readers
    return held + max(round(step), images_at_once(config) * _captions(own, size))


def _neighbours(config: RunConfig) -> int:
    """Return the bytes of means of features, as units too, and of similarities."""
    evaluation, width = config.evaluation, config.model.encoder.width
    num_train = max(evaluation.num_probe_scenes, evaluation.set_images)
    means = (FLOAT32 + 2 * FLOAT64) * (num_train + evaluation.num_items) * width
    values = config.model.num_patches * width
    features = 2 * FLOAT32 * features_at_once(values) * values  # of two chunks
    return means + max(features, 2 * FLOAT64 * NEIGHBOURS * num_train)


def _probe_size(config: RunConfig) -> ProbeSize:
    """Return the size of the largest probe: of the objects in the cells of a scene, or of a labelled set."""
    model, scenes = config.model, config.data.scenes
    num_outputs = max(scenes.grid**2 * scenes.num_objects * len(config.data.sources), MIN_CLASSES)
    return ProbeSize.of(config.evaluation.probe, model.num_patches, model.encoder.width, num_outputs)
