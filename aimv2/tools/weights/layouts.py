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
from aimv2.config.model_config import DecoderConfig, EncoderConfig, ModelConfig, TextTowerConfig, TransformerConfig
from aimv2.model.dual_encoder import DualEncoder
from aimv2.model.encoder import Encoder
from aimv2.model.layers import NORM_EPS
from aimv2.model.network import Network
from aimv2.objectives.contrastive import MAX_SCALE
from aimv2.runs.tensor_file import check_finite

# What transformers assumes where a config.json states nothing (Aimv2VisionConfig, Aimv2TextConfig, Aimv2Config).
VISION_DEFAULTS = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 8,
    "image_size": 224,
    "patch_size": 14,
}
TEXT_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}
DEFAULT_EMBED_DIM = 512
TEXT_SIZES = {"vocab_size": "vocab_size", "max_text_tokens": "max_position_embeddings", "end_id": "eos_token_id"}

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
TRANSFORMERS_PAIR: Names = {
    **{ours: f"vision_model.{theirs}" for ours, theirs in TRANSFORMERS.items()},
    "image_head.query": "vision_model.head.cls_token",
    "image_head.key_value": "vision_model.head.{k,v}_proj",
    "image_head.out": "vision_model.head.output_proj",
    "image_head.proj": "visual_projection",
    "text_tower.text_embed": "text_model.embeddings.token_embedding",
    "text_tower.text_pos_embed": "text_model.embeddings.position_embedding.weight",
    **{f"text_tower.{ours}": f"text_model.{theirs}" for ours, (theirs, _) in ENCODER.items() if "#" in ours},
    "text_tower.norm": "text_model.rms_norm",
    "text_tower.proj": "text_projection",
    "similarity.logit_scale": "logit_scale",
}
HEAD = tuple(  # of transformers, which is not read
    f"head.{name}" for name in ("cls_token", "k_proj.weight", "v_proj.weight", "output_proj.weight", "output_proj.bias")
)
PATCHES, POSITIONS = "encoder.patch_embed.weight", "encoder.pos_embed"
FFN = "encoder.blocks.0.ffn.gate_up.weight"
FLAT_TABLES = {TRANSFORMERS[POSITIONS], TRANSFORMERS_PAIR[POSITIONS]}  # [I, D]; ours and Apple's are [1, I, D]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TextTowerSizes:
    """The text tower of a pair of encoders; a caption is pooled at its first end-of-text, ``end_id``."""

    width: int = Field(gt=0)
    depth: int = Field(gt=0)
    num_heads: int = Field(gt=0)
    embed_dim: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    max_text_tokens: int = Field(gt=0)
    end_id: int = Field(ge=0)

    def __post_init__(self) -> None:
        if self.end_id >= self.vocab_size:
            raise ValueError(f"end_id={self.end_id} is not below vocab_size={self.vocab_size}")


# A placeholder where there is none, as small as a ModelConfig allows; the image encoder does not read it.
NO_TEXT_TOWER = TextTowerSizes(width=1, depth=1, num_heads=1, embed_dim=1, vocab_size=3, max_text_tokens=2, end_id=0)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Source:
    """The origin of weights: their layout, or ``run``, and the name of the file or the run."""

    layout: str
    file: str
    dtypes: tuple[str, ...]  # of the file's tensors; ours are float32
    resampled_from_px: int | None = None  # of older folders: image size of the positions before they were resampled


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class WeightsConfig:
    """The sizes and origin of weights: the ``config.json`` of our folders, without parts that only training needs.

    Attributes:
        encoder: its ``attention`` is that of training, ``auto`` for published weights; inference uses full attention.
        image_px: side of the square image that a learned table of positions is for. Sin-cos positions take any size;
            then this is the size that the source names, or 16 patches.
        text_tower: None if there is only an image encoder.
    """

    layout_version: Literal[1] = 1
    source: Source
    image_px: int = Field(gt=0)
    patch_px: int = Field(gt=0)
    patch_order: Literal["raster", "spiral", "random"] = "raster"
    encoder: EncoderConfig
    text_tower: TextTowerSizes | None = None

    def __post_init__(self) -> None:
        _ = self.model  # a ModelConfig checks its values

    @property
    def model(self) -> ModelConfig:
        """The config from which the network is built; it has no decoder."""
        tower = self.text_tower or NO_TEXT_TOWER
        return ModelConfig(
            encoder=self.encoder,
            decoder=DecoderConfig(width=1, depth=1, num_heads=1),
            text_tower=TextTowerConfig(
                width=tower.width, depth=tower.depth, num_heads=tower.num_heads, embed_dim=tower.embed_dim
            ),
            image_px=self.image_px,
            patch_px=self.patch_px,
            vocab_size=tower.vocab_size,
            max_text_tokens=tower.max_text_tokens,
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
        if config.text_tower is not None:
            return DualEncoder(config.model, temperature=1.0, max_scale=MAX_SCALE)
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
    is_pair: bool = False  # LiT's pair of encoders, ``Aimv2Model``

    def config(
        self, where: Path, stated: dict[str, Any], tensors: Mapping[str, Tensor], source: Mapping[str, Any]
    ) -> WeightsConfig:
        """Return the config of weights from their config.json."""
        model_type = stated.get("model_type", self.types[0])
        if model_type not in self.types:
            raise UsageError(f"{where}: model_type={short(model_type)} must be {' or '.join(map(repr, self.types))}")
        vision, tower = VISION_DEFAULTS | stated, None
        if self.is_pair:
            vision, text = VISION_DEFAULTS | _section(where, stated, "vision"), _section(where, stated, "text")
            tower = _stack_sizes(TEXT_DEFAULTS | text) | {
                "embed_dim": stated.get("projection_dim", DEFAULT_EMBED_DIM),
                **{ours: (TEXT_DEFAULTS | text)[theirs] for ours, theirs in TEXT_SIZES.items()},
            }
        is_learned = their_names(self.names, POSITIONS)[0] in tensors
        image_px, patch_px = vision["image_size"], vision["patch_size"]
        if not is_learned and type(patch_px) is int and (type(image_px) is not int or image_px % patch_px):
            image_px = 16 * patch_px  # positions are computed, for images of any size
        encoder = _stack_sizes(vision) | {"positions": "learned" if is_learned else "sincos"}
        values = {"source": source, "image_px": image_px, "patch_px": patch_px, "encoder": encoder, "text_tower": tower}
        config = weights_config(where, values)
        expected = self.description(config)
        if not is_learned:
            (expected["vision_config"] if self.is_pair else expected).pop("image_size")
        for key in ("architectures", "dtype", "use_head", "model_type"):
            expected.pop(key, None)
        _check_agrees(where, stated, expected)
        return config

    def description(self, config: WeightsConfig) -> dict[str, Any]:
        """Return the config.json that other packages load."""
        images = {"image_size": config.image_px, "patch_size": config.patch_px, "num_channels": 3}
        vision = {**_stack(config.encoder), "is_native": config.encoder.positions == "sincos", **images}
        tower = config.text_tower
        if not self.is_pair:
            return {**self.header, **vision}
        assert tower is not None, "a pair of encoders has a text tower"
        return {
            **self.header,
            "projection_dim": tower.embed_dim,
            "max_logit_scale": MAX_SCALE,
            "text_config": {
                **_stack(config.model.tower.stack),
                **{theirs: getattr(tower, ours) for ours, theirs in TEXT_SIZES.items()},
            },
            "vision_config": {"model_type": "aimv2_vision_model", "use_head": True, **vision},
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
    WeightsLayout(
        name="transformers",
        names=TRANSFORMERS_PAIR,
        file="model.safetensors",
        types=("aimv2",),
        header={"architectures": ["Aimv2Model"], "model_type": "aimv2", "dtype": "float32"},
        is_pair=True,
    ),
)


def _section(where: Path, stated: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = stated.get(f"{name}_config") or {}
    if not isinstance(section, dict) or section.get("model_type", f"aimv2_{name}_model") != f"aimv2_{name}_model":
        raise UsageError(f"{where}: {name}_config must be an object with model_type='aimv2_{name}_model'")
    return section


def _check_agrees(where: Path | str, stated: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse a config.json that states a value that our network does not have; missing keys are allowed."""
    for key, value in expected.items():
        if isinstance(value, dict):
            _check_agrees(f"{where}: {key}", stated.get(key) or {}, value)
        # A number of another type is refused too: True is not 1, and 128.0 is not a size.
        elif key in stated and (stated[key] != value or type(stated[key]) is not type(value)):
            has = f"an AIMv2 of these sizes and tensors has {value!r}"
            raise UsageError(f"{where}: {key}={short(stated[key])}, but {has}")


def _stack_sizes(stated: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "width": stated["hidden_size"],
        "depth": stated["num_hidden_layers"],
        "num_heads": stated["num_attention_heads"],
    }


def _stack(config: TransformerConfig) -> dict[str, Any]:
    """Return everything that a config.json may state of a stack of blocks but dropout, which inference does not use."""
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "intermediate_size": config.ffn_hidden,
        "num_attention_heads": config.num_heads,
        "hidden_act": "silu",
        "rms_norm_eps": NORM_EPS,
        "qkv_bias": False,
        "mlp_bias": False,
        "use_bias": False,  # in Apple's own files
    }


def their_names(names: Names, ours: str) -> list[str]:
    """Return their names of the parts of one of our tensors, in order."""
    block = re.search(r"\.(\d+)\.", ours)
    template, number = (ours.replace(block[0], ".#.", 1), block[1]) if block else (ours, "")
    module, dot, kind = template.rpartition(".")
    start, _, rest = names.get(template, names.get(module, module) + dot + kind).partition("{")
    parts, _, end = rest.partition("}")
    return [(start + part + end).replace("#", number) for part in parts.split(",")]


def to_ours(file: Path, tensors: Mapping[str, Tensor], names: Names, config: WeightsConfig) -> dict[str, Tensor]:
    """Return the tensors under our names, float32."""
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
    if (scale := whole.get("similarity.logit_scale", torch.zeros(()))) < 0:
        raise UsageError(f"{file}: logit_scale={scale:.4g} is below 0; transformers would raise it to 0, we do not")
    return whole


def to_theirs(tensors: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Return our tensors under their names: the inverse of ``to_ours``."""
    renamed = {}
    for ours, whole in tensors.items():
        theirs = their_names(names, ours)
        parts = whole.chunk(len(theirs)) if len(theirs) > 1 else [whole]
        for name, value in zip(theirs, parts, strict=True):
            renamed[name] = value[0] if name in FLAT_TABLES else value
    return renamed
