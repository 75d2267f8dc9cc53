"""timm's layout: ``aimv2_*`` of its vision transformers."""

import math
import re
from typing import Any

from aimv2.base.errors import UsageError
from aimv2.config.model_config import EncoderConfig
from aimv2.tools.weights.contents import WeightsConfig
from aimv2.tools.weights.files import short
from aimv2.tools.weights.layout import HEAD_DIM, Layout, num_heads
from aimv2.tools.weights.names import POSITIONS, TIMM, TIMM_HEAD
from aimv2.tools.weights.tensors import check_agrees

WIDTHS = {"large": 1024, "huge": 1536, "1b": 2048, "3b": 3072}
SIZES = {"img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads", "mlp_ratio"}
UNREAD = {"num_classes", "global_pool"}  # they only affect layers after the features


class Timm(Layout):
    """A registered architecture and the arguments that differ from it."""

    name = "timm"
    names = TIMM
    head = TIMM_HEAD

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
