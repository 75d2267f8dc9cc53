"""The published layouts: names of tensors, and the ``config.json`` that goes with them.

``VisionModel`` and ``PairModel`` are transformers' ``Aimv2VisionModel`` and ``Aimv2Model``, ``ML_AIM`` is Apple's with
the same config.json, and ``Timm`` is timm's ``aimv2_*``.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from aimv2.base.errors import UsageError, short
from aimv2.config.model_config import EncoderConfig, TransformerConfig
from aimv2.model.layers import NORM_EPS
from aimv2.objectives.contrastive import MAX_SCALE
from aimv2.tools.weights.contents import MAX_GRID, WeightsConfig
from aimv2.tools.weights.tensors import ML_AIM as ML_AIM_NAMES
from aimv2.tools.weights.tensors import (
    POSITIONS,
    TIMM,
    TIMM_HEAD,
    TRANSFORMERS,
    TRANSFORMERS_HEAD,
    TRANSFORMERS_PAIR,
    Names,
    check_agrees,
)

HEAD_DIM = 128  # of every published AIMv2, including LiT's text tower
# The defaults of transformers (Aimv2VisionConfig, Aimv2TextConfig, Aimv2Config).
VISION_DEFAULTS = {
    "model_type": "aimv2_vision_model",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "intermediate_size": 2816,
    "patch_size": 14,
    "num_channels": 3,
    "num_attention_heads": 8,
    "image_size": 224,
    "is_native": False,
}
TEXT_DEFAULTS = {
    "model_type": "aimv2_text_model",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "intermediate_size": 2048,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "num_attention_heads": 6,
    "eos_token_id": 49407,
}
PAIR_DEFAULTS = {"model_type": "aimv2", "projection_dim": 512, "max_logit_scale": 100.0}
VISION_HEADER = {
    "architectures": ["Aimv2VisionModel"],
    "model_type": "aimv2_vision_model",
    "dtype": "float32",
    "use_head": False,
}
# Of timm.
WIDTHS = {"large": 1024, "huge": 1536, "1b": 2048, "3b": 3072}
SIZES = {"img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads", "mlp_ratio"}
UNREAD = {"num_classes", "global_pool"}  # they only affect layers after the features


def num_heads(where: str, stated: dict[str, Any], key: str, width: int) -> Any:
    """Return the stated number of heads, not checked yet, or else that of heads 128 wide.

    Raises:
        UsageError: the number is not stated, and the width is not a multiple of 128.
    """
    if key not in stated and width % HEAD_DIM:
        raise UsageError(
            f"{where}: the number of heads is unknown without a config.json: the width {width} is not a multiple of"
            f" {HEAD_DIM}, the width of a head in every published model"
        )
    return stated.get(key, width // HEAD_DIM)


class VisionModel(NamedTuple):
    """A single encoder, with the keys of ``Aimv2VisionModel``.

    Attributes:
        name: value of ``layout=``.
        head: tensors of an optional head, which are not read.
        file: name of the file of weights.
        types: the kinds of model that a config.json may state.
        defaults: values of a config.json that it need not state.
        header: values of the config.json that is written, before the sizes.
        has_text_tower: True for a pair of encoders.
    """

    name: str = "transformers"
    names: Names = TRANSFORMERS
    head: tuple[str, ...] = TRANSFORMERS_HEAD
    file: str = "model.safetensors"
    types: tuple[str, ...] = ("aimv2_vision_model",)
    defaults: Mapping[str, Any] = VISION_DEFAULTS
    header: Mapping[str, Any] = VISION_HEADER
    has_text_tower: bool = False

    def stated(self, where: str, description: dict[str, Any]) -> dict[str, Any]:
        """Return the values of a config.json, with the layout's defaults for missing ones.

        Raises:
            UsageError: it describes another kind of model.
        """
        return {**self.defaults, **_of_type(where, description, *self.types)}

    def values(self, where: str, stated: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
        """Return the values of a WeightsConfig except its source.

        Args:
            where: the config.json, or the file of weights if there is none.
            stated: values of the config.json; empty if there is none.
            shown: values that the shapes of the tensors show.

        Raises:
            UsageError: a value is neither shown nor stated.
        """
        encoder, patch_px = shown["encoder"], shown["patch_px"]
        image_px = stated.get("image_size")
        if type(image_px) is not int or not 2 * patch_px <= image_px <= MAX_GRID * patch_px:
            image_px = 16 * patch_px
        return {
            "image_px": image_px // patch_px * patch_px,  # unless the tensors show another
            **shown,
            "encoder": {**encoder, "num_heads": num_heads(where, stated, "num_attention_heads", encoder["width"])},
        }

    def check(self, where: str, stated: dict[str, Any], config: WeightsConfig) -> None:
        """Refuse a config.json that contradicts this config or requires more than our encoder does.

        Raises:
            UsageError: naming the key.
        """
        expected = self.sizes(config)
        is_native = expected["is_native"]
        if stated.get("is_native", is_native) is not is_native:
            has = f"{'lack' if is_native else 'have'} the table of positions, {self.names[POSITIONS]!r}"
            raise UsageError(f"{where}: is_native={short(stated['is_native'])}, but the tensors {has}")
        if is_native:
            del expected["image_size"]  # positions are computed, for images of any size
        _check_ffn(where, stated, expected)
        check_agrees(where, stated, expected)

    def sizes(self, config: WeightsConfig) -> dict[str, Any]:
        """Return the values that a config.json and our config share."""
        return {
            **_stack(config.encoder),
            "is_native": config.encoder.positions == "sincos",
            "image_size": config.image_px,
            "patch_size": config.patch_px,
            "num_channels": 3,
        }

    def description(self, config: WeightsConfig) -> dict[str, Any]:
        """Return the config.json that other packages load."""
        return {**self.header, **self.sizes(config)}


# Apple's config.json has the keys of transformers, and may be incomplete or missing.
ML_AIM = VisionModel(
    name="ml-aim",
    names=ML_AIM_NAMES,
    head=(),
    file="weights.safetensors",
    types=("aimv2", "aimv2_vision_model"),  # its own, and that of transformers
    defaults={},
    header={},
)


class PairModel:
    """``Aimv2Model``; attributes and methods as ``VisionModel``."""

    name = "transformers"
    names = TRANSFORMERS_PAIR
    head: tuple[str, ...] = ()
    file = "model.safetensors"
    has_text_tower = True
    vision = VisionModel(names=TRANSFORMERS_PAIR)

    def stated(self, where: str, description: dict[str, Any]) -> dict[str, Any]:
        stated = PAIR_DEFAULTS | _of_type(where, description, "aimv2")
        for key, defaults in (("vision", VISION_DEFAULTS), ("text", TEXT_DEFAULTS)):
            section = description.get(f"{key}_config") or {}
            if not isinstance(section, dict):
                raise UsageError(f"{where}: {key}_config must be an object, not {short(section)}")
            section = _of_type(f"{where}: {key}_config", section, f"aimv2_{key}_model")
            stated[f"{key}_config"] = defaults | section
        return stated

    def values(self, where: str, stated: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
        if not stated:
            raise UsageError(
                f"{where} needs a config.json beside it, which alone states the text tower's heads and end-of-text"
            )
        text, vocab_size = stated["text_config"], shown["text_tower"]["vocab_size"]
        end_id = text["eos_token_id"]
        if type(end_id) is not int or not 0 <= end_id < vocab_size:
            raise UsageError(f"{where}: text_config: eos_token_id={short(end_id)} must be one of {vocab_size} tokens")
        tower = {**shown["text_tower"], "num_heads": text["num_attention_heads"], "end_id": end_id}
        return {**self.vision.values(where, stated["vision_config"], shown), "text_tower": tower}

    def check(self, where: str, stated: dict[str, Any], config: WeightsConfig) -> None:
        sizes = self.sizes(config)
        text = sizes.pop("text_config")
        _check_ffn(f"{where}: text_config", stated["text_config"], text)
        check_agrees(f"{where}: text_config", stated["text_config"], text)
        check_agrees(where, stated, sizes)
        self.vision.check(f"{where}: vision_config", stated["vision_config"], config)

    def sizes(self, config: WeightsConfig) -> dict[str, Any]:
        """Return the values that a config.json and our config share, except the vision model's."""
        tower = config.text_tower
        assert tower is not None, "a pair of encoders has a text tower"
        text = {
            **_stack(config.model.tower.stack),
            "vocab_size": tower.vocab_size,
            "max_position_embeddings": tower.max_text_tokens,
            "eos_token_id": tower.end_id,
        }
        return {"projection_dim": tower.embed_dim, "max_logit_scale": MAX_SCALE, "text_config": text}

    def description(self, config: WeightsConfig) -> dict[str, Any]:
        sizes = self.sizes(config)
        text = {"model_type": "aimv2_text_model", **sizes.pop("text_config")}
        vision = {"model_type": "aimv2_vision_model", "use_head": True, **self.vision.sizes(config)}
        header = {"architectures": ["Aimv2Model"], "model_type": "aimv2", "dtype": "float32"}
        return {**header, **sizes, "vision_config": vision, "text_config": text}


def _of_type(where: str, description: dict[str, Any], *allowed: str) -> dict[str, Any]:
    """Return the config.json after refusing another kind of model; it need not state any."""
    model_type = description.get("model_type", allowed[0])
    if model_type not in allowed:
        raise UsageError(f"{where}: model_type={short(model_type)} must be {' or '.join(map(repr, allowed))}")
    return description


def _check_ffn(where: str, stated: dict[str, Any], sizes: dict[str, Any]) -> None:
    """Refuse an FFN of another hidden width: in AIMv2 it follows from the width of the model."""
    width, hidden = sizes["hidden_size"], sizes["intermediate_size"]
    if stated.get("hidden_size", width) == width and stated.get("intermediate_size", hidden) != hidden:
        raise UsageError(
            f"{where}: intermediate_size={short(stated['intermediate_size'])}, but with hidden_size={width} AIMv2 has"
            f" {hidden}: 8/3 of it, rounded up to a multiple of 256"
        )


def _stack(config: TransformerConfig) -> dict[str, Any]:
    """Return the sizes of a stack of blocks, and everything else that its config.json may state except dropout, which
    inference does not use. Apple's own files have ``use_bias``."""
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "intermediate_size": config.ffn_hidden,
        "num_attention_heads": config.num_heads,
        "hidden_act": "silu",
        "rms_norm_eps": NORM_EPS,
        "qkv_bias": False,
        "mlp_bias": False,
        "use_bias": False,
    }


class Timm:
    """A registered architecture and the arguments that differ from it; attributes and methods as ``VisionModel``."""

    name = "timm"
    names = TIMM
    head = TIMM_HEAD
    file = "model.safetensors"
    has_text_tower = False

    def stated(self, where: str, description: dict[str, Any]) -> dict[str, Any]:
        architecture, changed = description.get("architecture"), description.get("model_args") or {}
        named = re.fullmatch(r"aimv2_(large|huge|1b|3b)_patch14_([0-9]{1,4})", str(architecture))
        if named is None:
            raise UsageError(f"{where}: architecture={short(architecture)} is not one of timm's aimv2_*")
        if not isinstance(changed, dict) or not changed.keys() <= SIZES | UNREAD:
            allowed = ", ".join(sorted(SIZES | UNREAD))
            raise UsageError(f"{where}: model_args={short(changed)} may only hold {allowed}")
        width = WIDTHS[named[1]]
        stated: dict[str, Any] = {"img_size": int(named[2]), "patch_size": 14, "in_chans": 3}
        stated |= {"embed_dim": width, "depth": 24, "num_heads": width // HEAD_DIM, **changed}
        match stated["img_size"]:
            case [height, other] if height == other:
                stated["img_size"] = height
        return stated

    def values(self, where: str, stated: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
        encoder = shown["encoder"]
        if encoder["positions"] != "learned":
            raise UsageError(f"{where}: the tensors lack {TIMM[POSITIONS]!r}, which all of timm's aimv2_* have")
        heads = num_heads(where, stated, "num_heads", encoder["width"])
        return {**shown, "encoder": {**encoder, "num_heads": heads}}

    def check(self, where: str, stated: dict[str, Any], config: WeightsConfig) -> None:
        check_agrees(where, stated, self.sizes(config))
        width, hidden = config.encoder.width, config.encoder.ffn_hidden
        ratio = stated.get("mlp_ratio", _mlp_ratio(config.encoder))
        if type(ratio) not in (int, float) or not hidden <= width * ratio < hidden + 1:  # timm rounds down
            raise UsageError(
                f"{where}: mlp_ratio={short(ratio)}, but with embed_dim={width} it must be {hidden} / {width}"
            )

    def sizes(self, config: WeightsConfig) -> dict[str, Any]:
        """Return the values that a config.json and our config share."""
        encoder = config.encoder
        return {
            "img_size": config.image_px,
            "patch_size": config.patch_px,
            "in_chans": 3,
            "embed_dim": encoder.width,
            "depth": encoder.depth,
            "num_heads": encoder.num_heads,
        }

    def description(self, config: WeightsConfig) -> dict[str, Any]:
        encoder = config.encoder
        size = next((name for name, width in WIDTHS.items() if width == encoder.width), "large")
        return {
            "architecture": f"aimv2_{size}_patch14_224",  # other image sizes differ only in the arguments
            "num_classes": 0,
            "num_features": encoder.width,
            "model_args": {**self.sizes(config), "mlp_ratio": _mlp_ratio(encoder), "num_classes": 0},
            "pretrained_cfg": {
                "input_size": [3, config.image_px, config.image_px],
                "fixed_input_size": True,
                "num_classes": 0,
                "first_conv": "patch_embed.proj",
                "classifier": "head",
            },
        }


def _mlp_ratio(encoder: EncoderConfig) -> float:
    """Return timm's ratio of the FFN's hidden width to the width; timm rounds their product down."""
    ratio = encoder.ffn_hidden / encoder.width
    return ratio if int(encoder.width * ratio) == encoder.ffn_hidden else math.nextafter(ratio, math.inf)


Layout = VisionModel | PairModel | Timm
PUBLISHED: tuple[Layout, ...] = (VisionModel(), PairModel(), Timm(), ML_AIM)
