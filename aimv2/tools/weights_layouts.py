"""Weights with their config, and the published layouts: names of tensors, and the ``config.json`` beside them.

In the tables of names a row is a module with its ``weight`` and ``bias``, or a single tensor. ``#`` is the number of a
block. If one of our tensors is several of theirs, stacked, braces list the differing parts.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from aimv2.base.errors import UsageError, short, some
from aimv2.config.arguments import checked
from aimv2.config.data_config import CHECKED
from aimv2.config.model_config import DecoderConfig, EncoderConfig, ModelConfig
from aimv2.model.encoder import Encoder
from aimv2.model.layers import NORM_EPS
from aimv2.model.network import Network
from aimv2.runs.tensor_file import check_finite

# What transformers assumes where a config.json states nothing (Aimv2VisionConfig).
DEFAULTS = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 8,
    "image_size": 224,
    "patch_size": 14,
}

Names = Mapping[str, str]

OURS: Names = {}  # a name that is not in a table stays as it is
ENCODER = {  # ours: transformers, ml-aim
    "patch_embed": ("embeddings.patch_embed", "preprocessor.patchifier.proj"),
    "patch_norm": ("embeddings.rms_norm", "preprocessor.patchifier.norm"),
    "pos_embed": ("embeddings.position_embedding.weight", "preprocessor.pos_embed"),
    "blocks.#.norm1": ("encoder.layers.#.rms_norm1", "trunk.blocks.#.norm_1"),
    "blocks.#.attn.qkv": ("encoder.layers.#.attention.{q,k,v}_proj", "trunk.blocks.#.attn.qkv"),
    "blocks.#.attn.out": ("encoder.layers.#.attention.out_proj", "trunk.blocks.#.attn.proj"),
    "blocks.#.norm2": ("encoder.layers.#.rms_norm2", "trunk.blocks.#.norm_2"),
    "blocks.#.ffn.gate_up": ("encoder.layers.#.ffn.{gate,up}_proj", "trunk.blocks.#.mlp.{fc1,fc3}"),
    "blocks.#.ffn.down": ("encoder.layers.#.ffn.down_proj", "trunk.blocks.#.mlp.fc2"),
    "norm": ("rms_norm", "trunk.post_trunk_norm"),
}
TRANSFORMERS: Names = {f"encoder.{ours}": theirs for ours, (theirs, _) in ENCODER.items()}
ML_AIM: Names = {f"encoder.{ours}": theirs for ours, (_, theirs) in ENCODER.items()}
HEAD = tuple(  # of transformers, which is not read
    f"head.{name}" for name in ("cls_token", "k_proj.weight", "v_proj.weight", "output_proj.weight", "output_proj.bias")
)
PATCHES, POSITIONS = "encoder.patch_embed.weight", "encoder.pos_embed"
FFN = "encoder.blocks.0.ffn.gate_up.weight"
FLAT_TABLE = TRANSFORMERS[POSITIONS]  # [I, D]; ours and Apple's are [1, I, D]
PAIR = "vision_model."  # before the names of the image encoder in an ``Aimv2Model``, LiT's pair of encoders
BESIDE = ("logit_scale", "text_model", "text_projection", "visual_projection")  # its other parts


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Source:
    """The origin of weights: their layout, or ``run``, and the name of the file or the run."""

    layout: str
    file: str
    dtypes: tuple[str, ...]  # of the file's tensors; ours are float32
    resampled_from_px: int | None = None  # of older folders: image size of the positions before they were resampled


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class WeightsConfig:
    """The sizes and origin of weights: the ``config.json`` of our folders, without parts that only training needs."""

    layout_version: Literal[1] = 1
    source: Source
    # Of the square image that a learned table of positions is for. Sin-cos positions take any size; then this is the
    # size that the source names, or 16 patches.
    image_px: int = Field(gt=0)
    patch_px: int = Field(gt=0)
    patch_order: Literal["raster", "spiral", "random"] = "raster"
    encoder: EncoderConfig  # ``attention`` is that of training, ``auto`` for published weights; inference uses full

    def __post_init__(self) -> None:
        _ = self.model  # a ModelConfig checks its values

    @property
    def model(self) -> ModelConfig:
        """The config from which the encoder is built; the other parts are as small as a ModelConfig allows."""
        return ModelConfig(
            encoder=self.encoder,
            decoder=DecoderConfig(width=1, depth=1, num_heads=1),
            image_px=self.image_px,
            patch_px=self.patch_px,
            vocab_size=3,
            max_text_tokens=2,
            patch_order=self.patch_order,
        )


class Weights(NamedTuple):
    """A config, its tensors (float32, under our names), and the omitted parts of the source with the reason."""

    config: WeightsConfig
    tensors: dict[str, Tensor]
    omitted: str = ""


def weights_config(where: Path | str, values: Mapping[str, Any]) -> WeightsConfig:
    config: WeightsConfig = checked(str(where), WeightsConfig, values)
    return config


def empty_network(config: WeightsConfig) -> Network:
    """Return the network of the config on torch's meta device, so without memory for its tensors."""
    with torch.device("meta"):
        network = Network()
        network.encoder = Encoder(config.model)
        return network


class WeightsLayout(NamedTuple):
    """A published layout, whose config.json has the keys of transformers."""

    name: str  # value of ``layout=``
    names: Names
    file: str  # name of the file of weights
    types: tuple[str, ...]  # the kinds of model that a config.json may state
    header: Mapping[str, Any]  # values of the config.json that is written, before the sizes

    def config(
        self, where: Path, stated: dict[str, Any], tensors: Mapping[str, Tensor], source: Mapping[str, Any]
    ) -> WeightsConfig:
        """Return the config of weights from their config.json."""
        model_type = stated.get("model_type", self.types[0])
        if model_type not in self.types:
            raise UsageError(f"{where}: model_type={short(model_type)} must be {' or '.join(map(repr, self.types))}")
        vision, is_learned = DEFAULTS | stated, their_names(self.names, POSITIONS)[0] in tensors
        image_px, patch_px = vision["image_size"], vision["patch_size"]
        if not is_learned and type(patch_px) is int and (type(image_px) is not int or image_px % patch_px):
            image_px = 16 * patch_px  # positions are computed, for images of any size
        encoder = {
            "width": vision["hidden_size"],
            "depth": vision["num_hidden_layers"],
            "num_heads": vision["num_attention_heads"],
            "positions": "learned" if is_learned else "sincos",
        }
        values = {"source": source, "image_px": image_px, "patch_px": patch_px, "encoder": encoder}
        config = weights_config(where, values)
        for key, value in self.sizes(config).items():
            # A number of another type is refused too: True is not 1, and 128.0 is not a size.
            is_checked = key in stated and (is_learned or key != "image_size")
            if is_checked and (stated[key] != value or type(stated[key]) is not type(value)):
                has = f"an AIMv2 of these sizes and tensors has {value!r}"
                raise UsageError(f"{where}: {key}={short(stated[key])}, but {has}")
        return config

    def sizes(self, config: WeightsConfig) -> dict[str, Any]:
        """Return all that a config.json may state but its header and dropout, which inference does not use."""
        encoder = config.encoder
        return {
            "hidden_size": encoder.width,
            "num_hidden_layers": encoder.depth,
            "intermediate_size": encoder.ffn_hidden,
            "num_attention_heads": encoder.num_heads,
            "hidden_act": "silu",
            "rms_norm_eps": NORM_EPS,
            "qkv_bias": False,
            "mlp_bias": False,
            "use_bias": False,  # in Apple's own files
            "is_native": encoder.positions == "sincos",
            "image_size": config.image_px,
            "patch_size": config.patch_px,
            "num_channels": 3,
        }


PUBLISHED = (
    WeightsLayout(
        name="transformers",
        names=TRANSFORMERS,
        file="model.safetensors",
        types=("aimv2_vision_model",),
        header={
            "architectures": ["Aimv2VisionModel"],
            "model_type": "aimv2_vision_model",
            "dtype": "float32",
            "use_head": False,
        },
    ),
    WeightsLayout(  # its config.json is Apple's own or that of transformers
        name="ml-aim", names=ML_AIM, file="weights.safetensors", types=("aimv2", "aimv2_vision_model"), header={}
    ),
)


def their_names(names: Names, ours: str) -> list[str]:
    """Return their names of the parts of one of our tensors, in order."""
    block = re.search(r"\.(\d+)\.", ours)
    template, number = (ours.replace(block[0], ".#.", 1), block[1]) if block else (ours, "")
    module, dot, kind = template.rpartition(".")
    start, _, rest = names.get(template, names.get(module, module) + dot + kind).partition("{")
    parts, _, end = rest.partition("}")
    return [(start + part + end).replace("#", number) for part in parts.split(",")]


def to_ours(file: Path, tensors: Mapping[str, Tensor], names: Names, config: WeightsConfig) -> dict[str, Tensor]:
    network = empty_network(config).state_dict()
    expected = {name: list(value.shape) for name, value in to_theirs(network, names).items()}
    differing = {
        "missing": [short(name) for name in expected if name not in tensors],
        "unexpected": [short(name) for name in tensors if name not in expected],
        "of another shape": [
            f"{short(name)} {list(tensors[name].shape)}, expected {shape}"
            for name, shape in expected.items()
            if name in tensors and list(tensors[name].shape) != shape
        ],
    }
    counts = ", ".join(f"{len(names)} {kind} ({some(names)})" for kind, names in differing.items() if names)
    if counts:
        raise UsageError(f"{file}: the tensors are not those of an AIMv2 encoder of these sizes: {counts}")
    check_finite(file, tensors)
    whole = {}
    for ours, value in network.items():
        parts = [tensors[name].float().contiguous() for name in their_names(names, ours)]
        whole[ours] = (torch.cat(parts) if len(parts) > 1 else parts[0]).view(value.shape)
    return whole


def to_theirs(tensors: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Return our tensors under their names: the inverse of ``to_ours``."""
    renamed = {}
    for ours, whole in tensors.items():
        theirs = their_names(names, ours)
        parts = whole.chunk(len(theirs)) if len(theirs) > 1 else [whole]
        for name, value in zip(theirs, parts, strict=True):
            renamed[name] = value[0] if name == FLAT_TABLE else value
    return renamed
