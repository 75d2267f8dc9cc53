"""The layouts of transformers: ``Aimv2VisionModel`` and, with LiT's text tower, ``Aimv2Model``."""

from typing import Any

from aimv2.config.run_config import TransformerConfig
from aimv2.errors import UsageError
from aimv2.model.layers import NORM_EPS
from aimv2.objectives.clip import MAX_SCALE
from aimv2.weights.contents import MAX_GRID, WeightsConfig
from aimv2.weights.files import short
from aimv2.weights.layout import Layout, num_heads
from aimv2.weights.names import POSITIONS, TRANSFORMERS, TRANSFORMERS_HEAD, TRANSFORMERS_PAIR
from aimv2.weights.tensors import check_agrees

# What transformers takes where its config.json is silent (Aimv2VisionConfig, Aimv2TextConfig, Aimv2Config).
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

    def said(self, where: str, description: dict[str, Any]) -> dict[str, Any]:
        return _filled(where, description, VISION_DEFAULTS)

    def values(self, where: str, said: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
        encoder, patch_px = seen["encoder"], seen["patch_px"]
        image_px = said.get("image_size")
        if type(image_px) is not int or not 2 * patch_px <= image_px <= MAX_GRID * patch_px:
            image_px = 16 * patch_px
        return {
            "image_px": image_px // patch_px * patch_px,  # unless the tensors show it
            **seen,
            "encoder": {**encoder, "num_heads": num_heads(where, said, "num_attention_heads", encoder["width"])},
        }

    def check(self, where: str, said: dict[str, Any], config: WeightsConfig) -> None:
        expected = self.sizes(config)
        is_native = expected["is_native"]
        if said.get("is_native", is_native) is not is_native:
            has = f"{'lack' if is_native else 'have'} the table of positions, {self.names[POSITIONS]!r}"
            raise UsageError(f"{where}: is_native={short(said['is_native'])}, but the tensors {has}")
        if is_native:
            del expected["image_size"]  # positions are computed, for images of any size
        _check_ffn(where, said, expected)
        check_agrees(where, said, expected)

    def sizes(self, config: WeightsConfig) -> dict[str, Any]:
        """What has to be the same on both sides."""
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


class _VisionOfPair(VisionModel):
    names = TRANSFORMERS_PAIR


class PairModel(Layout):
    """``Aimv2Model``."""

    name = "transformers"
    names = TRANSFORMERS_PAIR
    has_text_tower = True
    vision = _VisionOfPair()

    def said(self, where: str, description: dict[str, Any]) -> dict[str, Any]:
        said = _filled(where, description, PAIR_DEFAULTS)
        for key, defaults in (("vision_config", VISION_DEFAULTS), ("text_config", TEXT_DEFAULTS)):
            section = description.get(key) or {}
            if not isinstance(section, dict):
                raise UsageError(f"{where}: {key} must be an object, not {short(section)}")
            said[key] = _filled(f"{where}: {key}", section, defaults)
        return said

    def values(self, where: str, said: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
        if not said:
            raise UsageError(
                f"{where} needs a config.json beside it: only there stand the text tower's heads and end-of-text"
            )
        text, vocab_size = said["text_config"], seen["text_tower"]["vocab_size"]
        end_id = text["eos_token_id"]
        if type(end_id) is not int or not 0 <= end_id < vocab_size:
            raise UsageError(f"{where}: text_config: eos_token_id={short(end_id)} must be one of {vocab_size} tokens")
        tower = {**seen["text_tower"], "num_heads": text["num_attention_heads"], "end_id": end_id}
        return {**self.vision.values(where, said["vision_config"], seen), "text_tower": tower}

    def check(self, where: str, said: dict[str, Any], config: WeightsConfig) -> None:
        sizes = self.sizes(config)
        text = sizes.pop("text_config")
        _check_ffn(f"{where}: text_config", said["text_config"], text)
        check_agrees(f"{where}: text_config", said["text_config"], text)
        check_agrees(where, said, sizes)
        self.vision.check(f"{where}: vision_config", said["vision_config"], config)

    def sizes(self, config: WeightsConfig) -> dict[str, Any]:
        """What has to be the same on both sides, but for the vision model."""
        tower = config.text_tower
        assert tower is not None, "a pair of encoders has a text tower"
        text = {
            **_stack(TransformerConfig(width=tower.width, depth=tower.depth, num_heads=tower.num_heads)),
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


def check_model_type(where: str, said: dict[str, Any], *allowed: str) -> None:
    """Refuse a config.json that says it is of another kind of model; it need not say.

    Raises:
        UsageError: naming the kinds that are allowed.
    """
    model_type = said.get("model_type", allowed[0])
    if model_type not in allowed:
        raise UsageError(f"{where}: model_type={short(model_type)} must be {' or '.join(map(repr, allowed))}")


def _filled(where: str, description: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """What a config.json says, with what transformers takes for what it leaves out."""
    check_model_type(where, description, defaults["model_type"])
    return {**defaults, **description}


def _check_ffn(where: str, said: dict[str, Any], sizes: dict[str, Any]) -> None:
    """Refuse an FFN of another width inside: in AIMv2 it follows from the width of the model."""
    width, hidden = sizes["hidden_size"], sizes["intermediate_size"]
    if said.get("hidden_size", width) == width and said.get("intermediate_size", hidden) != hidden:
        raise UsageError(
            f"{where}: intermediate_size={short(said['intermediate_size'])}, but with hidden_size={width} AIMv2 has"
            f" {hidden}: 8/3 of it, rounded up to a multiple of 256"
        )


def _stack(config: TransformerConfig) -> dict[str, Any]:
    """The sizes of a stack of blocks, and all else that its config.json may say of it but dropout, which rests in use.

    ``use_bias`` stands in Apple's own files.
    """
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
