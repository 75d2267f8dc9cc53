"""The layouts with transformers' ``config.json``: its ``Aimv2VisionModel`` and ``Aimv2Model``, and Apple's ml-aim."""

from typing import Any

from aimv2.base.errors import UsageError
from aimv2.config.model_config import TransformerConfig
from aimv2.model.layers import NORM_EPS
from aimv2.objectives.contrastive import MAX_SCALE
from aimv2.tools.weights.contents import MAX_GRID, WeightsConfig
from aimv2.tools.weights.files import short
from aimv2.tools.weights.layout import Layout, num_heads
from aimv2.tools.weights.names import ML_AIM, POSITIONS, TRANSFORMERS, TRANSFORMERS_HEAD, TRANSFORMERS_PAIR
from aimv2.tools.weights.tensors import check_agrees

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


class VisionModel(Layout):
    """``Aimv2VisionModel``."""

    name = "transformers"
    names = TRANSFORMERS
    head = TRANSFORMERS_HEAD

    def stated(self, where: str, description: dict[str, Any]) -> dict[str, Any]:
        return VISION_DEFAULTS | _of_type(where, description, "aimv2_vision_model")

    def values(self, where: str, stated: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
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
        header = {"architectures": ["Aimv2VisionModel"], "model_type": "aimv2_vision_model", "dtype": "float32"}
        return {**header, "use_head": False, **self.sizes(config)}


class MlAim(VisionModel):
    """Apple's ml-aim; its config.json has the keys of transformers and may be incomplete or missing."""

    name = "ml-aim"
    names = ML_AIM
    head = ()
    file = "weights.safetensors"

    def stated(self, where: str, description: dict[str, Any]) -> dict[str, Any]:
        return _of_type(where, description, "aimv2", "aimv2_vision_model")  # its own, and that of transformers

    def description(self, config: WeightsConfig) -> dict[str, Any]:
        return self.sizes(config)


class _VisionOfPair(VisionModel):
    names = TRANSFORMERS_PAIR


class PairModel(Layout):
    """``Aimv2Model``."""

    name = "transformers"
    names = TRANSFORMERS_PAIR
    has_text_tower = True
    vision = _VisionOfPair()

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
