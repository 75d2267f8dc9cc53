"""The published layouts: names of tensors, and the ``config.json`` that goes with them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from aimv2.base.errors import UsageError, short
from aimv2.config.model_config import TransformerConfig
from aimv2.model.layers import NORM_EPS
from aimv2.objectives.contrastive import MAX_SCALE
from aimv2.tools.weights.contents import MAX_GRID, WeightsConfig
from aimv2.tools.weights.tensors import ML_AIM, POSITIONS, TRANSFORMERS, TRANSFORMERS_PAIR, Names, check_agrees

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
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "intermediate_size": 2048,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "num_attention_heads": 6,
    "eos_token_id": 49407,
}
PAIR_DEFAULTS = {"projection_dim": 512, "max_logit_scale": 100.0}


class Layout(NamedTuple):
    """A published layout, whose config.json has the keys of transformers.

    Attributes:
        name: value of ``layout=``.
        file: name of the file of weights.
        head: tensors of an optional head, which are not read.
        types: the kinds of model that a config.json may state.
        defaults: values of a config.json that it need not state.
        header: values of the config.json that is written, before the sizes.
    """

    name: str
    names: Names
    file: str
    head: tuple[str, ...]
    types: tuple[str, ...]
    defaults: Mapping[str, Any]
    header: Mapping[str, Any]

    def stated(self, where: str, description: dict[str, Any]) -> dict[str, Any]:
        """Return the values of a config.json, with the layout's defaults for missing ones.

        Raises:
            UsageError: it describes another kind of model.
        """
        return _with_defaults(where, description, self.types, self.defaults)

    def values(self, where: str, stated: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
        """Return the values of a WeightsConfig except its source.

        Args:
            where: the config.json, or the file of weights if there is none.
            stated: values of the config.json; empty if there is none.
            shown: values that the shapes of the tensors show.

        Raises:
            UsageError: the number of heads is not stated, and the width is not a multiple of 128.
        """
        encoder, patch_px = shown["encoder"], shown["patch_px"]
        width = encoder["width"]
        if "num_attention_heads" not in stated and width % HEAD_DIM:
            raise UsageError(
                f"{where}: the number of heads is unknown without a config.json: the width {width} is not a multiple of"
                f" {HEAD_DIM}, the width of a head in every published model"
            )
        image_px = stated.get("image_size")
        if type(image_px) is not int or not 2 * patch_px <= image_px <= MAX_GRID * patch_px:
            image_px = 16 * patch_px
        return {
            "image_px": image_px // patch_px * patch_px,  # unless the tensors show another
            **shown,
            "encoder": {**encoder, "num_heads": stated.get("num_attention_heads", width // HEAD_DIM)},
        }

    def check(self, where: str, stated: dict[str, Any], config: WeightsConfig) -> None:
        """Refuse a config.json that contradicts this config or requires more than our encoder does.

        Raises:
            UsageError: naming the key.
        """
        expected = sizes_of(config)
        is_native = expected["is_native"]
        if stated.get("is_native", is_native) is not is_native:
            has = f"{'lack' if is_native else 'have'} the table of positions, {self.names[POSITIONS]!r}"
            raise UsageError(f"{where}: is_native={short(stated['is_native'])}, but the tensors {has}")
        if is_native:
            del expected["image_size"]  # positions are computed, for images of any size
        _check_stack(where, stated, expected)

    def description(self, config: WeightsConfig) -> dict[str, Any]:
        """Return the config.json that other packages load."""
        return {**self.header, **sizes_of(config)}


class PairLayout(Layout):
    """LiT's pair of encoders, ``Aimv2Model``."""

    def stated(self, where: str, description: dict[str, Any]) -> dict[str, Any]:
        stated = super().stated(where, description)
        for key, defaults in (("vision", VISION_DEFAULTS), ("text", TEXT_DEFAULTS)):
            section, place = stated.get(f"{key}_config") or {}, f"{where}: {key}_config"
            if not isinstance(section, dict):
                raise UsageError(f"{place} must be an object, not {short(section)}")
            stated[f"{key}_config"] = _with_defaults(place, section, (f"aimv2_{key}_model",), defaults)
        return stated

    def values(self, where: str, stated: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
        if not stated:
            raise UsageError(
                f"{where} needs a config.json beside it, which alone states the text tower's heads and end-of-text"
            )
        text = stated["text_config"]
        tower = {**shown["text_tower"], "num_heads": text["num_attention_heads"], "end_id": text["eos_token_id"]}
        return {**super().values(where, stated["vision_config"], shown), "text_tower": tower}

    def check(self, where: str, stated: dict[str, Any], config: WeightsConfig) -> None:
        sizes = pair_sizes_of(config)
        _check_stack(f"{where}: text_config", stated["text_config"], sizes.pop("text_config"))
        super().check(f"{where}: vision_config", stated["vision_config"], config)
        check_agrees(where, stated, sizes)

    def description(self, config: WeightsConfig) -> dict[str, Any]:
        vision = {"model_type": "aimv2_vision_model", "use_head": True, **sizes_of(config)}
        return {**self.header, **pair_sizes_of(config), "vision_config": vision}


def _with_defaults(
    where: str, description: dict[str, Any], types: tuple[str, ...], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the values of a config.json or a section of it, after refusing another kind of model."""
    model_type = description.get("model_type", types[0])
    if model_type not in types:
        raise UsageError(f"{where}: model_type={short(model_type)} must be {' or '.join(map(repr, types))}")
    return {**defaults, **description}


def _check_stack(where: str, stated: dict[str, Any], expected: dict[str, Any]) -> None:
    """Refuse other sizes than those expected, and an FFN whose hidden width does not follow from the model's."""
    width, hidden = expected["hidden_size"], expected["intermediate_size"]
    if stated.get("hidden_size", width) == width and stated.get("intermediate_size", hidden) != hidden:
        raise UsageError(
            f"{where}: intermediate_size={short(stated['intermediate_size'])}, but with hidden_size={width} AIMv2"
            f" has {hidden}: 8/3 of it, rounded up to a multiple of 256"
        )
    check_agrees(where, stated, expected)


def sizes_of(config: WeightsConfig) -> dict[str, Any]:
    """Return what a config.json may state of the image encoder."""
    return {
        **_stack(config.encoder),
        "is_native": config.encoder.positions == "sincos",
        "image_size": config.image_px,
        "patch_size": config.patch_px,
        "num_channels": 3,
    }


def pair_sizes_of(config: WeightsConfig) -> dict[str, Any]:
    """Return what the config.json of a pair of encoders may state besides its ``vision_config``."""
    tower = config.text_tower
    assert tower is not None, "a pair of encoders has a text tower"
    text = {
        **_stack(config.model.tower.stack),
        "vocab_size": tower.vocab_size,
        "max_position_embeddings": tower.max_text_tokens,
        "eos_token_id": tower.end_id,
    }
    return {"projection_dim": tower.embed_dim, "max_logit_scale": MAX_SCALE, "text_config": text}


def _stack(config: TransformerConfig) -> dict[str, Any]:
    """Return everything that a config.json may state of a stack of blocks except dropout, which inference does not use.
    Apple's own files have ``use_bias``."""
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


PUBLISHED = (
    Layout(
        name="transformers",
        names=TRANSFORMERS,
        file="model.safetensors",
        head=tuple(
            f"head.{name}"
            for name in ("cls_token", "k_proj.weight", "v_proj.weight", "output_proj.weight", "output_proj.bias")
        ),
        types=("aimv2_vision_model",),
        defaults=VISION_DEFAULTS,
        header={
            "architectures": ["Aimv2VisionModel"],
            "model_type": "aimv2_vision_model",
            "dtype": "float32",
            "use_head": False,
        },
    ),
    Layout(  # its config.json may be incomplete or missing
        name="ml-aim",
        names=ML_AIM,
        file="weights.safetensors",
        head=(),
        types=("aimv2", "aimv2_vision_model"),  # its own, and that of transformers
        defaults={},
        header={},
    ),
    PairLayout(
        name="transformers",
        names=TRANSFORMERS_PAIR,
        file="model.safetensors",
        head=(),
        types=("aimv2",),
        defaults=PAIR_DEFAULTS,
        header={"architectures": ["Aimv2Model"], "model_type": "aimv2", "dtype": "float32"},
    ),
)
