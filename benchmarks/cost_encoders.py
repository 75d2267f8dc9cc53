"""Encoders of the cost study."""

from collections.abc import Callable, Collection
from functools import partial

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aimv2.analysis.costs.measurements import ARCHITECTURES, OURS
from aimv2.base.errors import UsageError
from aimv2.model.encoder import Encoder
from aimv2.model.initial import init_weights_
from benchmarks.training import encoder_config

DEPTH = 24  # of all four


def _aimv2(image_px: int, depth: int) -> nn.Module:
    encoder = Encoder(encoder_config("vit_l", depth, image_px).model)
    init_weights_(encoder, seed=0)
    return encoder


def _clip(image_px: int, depth: int) -> nn.Module:
    """Return the image tower of open_clip's ViT-L-14, which returns the pooled image and the tokens."""
    import open_clip
    from open_clip.transformer import VisionTransformer

    config = open_clip.get_model_config("ViT-L-14")
    vision = config["vision_cfg"]
    width = vision["width"]
    tower: nn.Module = VisionTransformer(
        image_size=image_px,
        patch_size=vision["patch_size"],
        width=width,
        layers=depth,
        heads=width // 64,
        mlp_ratio=4.0,
        output_dim=config["embed_dim"],
        output_tokens=True,
    )
    return tower


def _timm(name: str, image_px: int, depth: int) -> nn.Module:
    """Return an encoder of timm without its pooling."""
    import timm

    model: nn.Module = timm.create_model(name, img_size=image_px, depth=depth, num_classes=0, global_pool="")
    return model


# Each maps the side of images in pixels and the depth to the encoder.
BUILD: dict[str, Callable[[int, int], nn.Module]] = {
    OURS: _aimv2,
    "clip": _clip,
    "siglip": partial(_timm, "vit_large_patch16_siglip_256"),
    "dinov2": partial(_timm, "vit_large_patch14_dinov2"),
}


def require_packages(names: Collection[str]) -> None:
    """Refuse encoders whose package cannot be imported.

    Raises:
        UsageError: with the command that installs it.
    """
    for name in names:
        package = ARCHITECTURES[name].package
        try:
            __import__(package)
        except ImportError as error:
            raise UsageError(
                f"models={name} needs the package {package}, but: {error}; install it with:"
                f" pip install 'aimv2-ablations[dev]', or leave it out: models=[{OURS}]"
            ) from error


def counted_flops(name: str, image_px: int, depth: int) -> int:
    """Return the FLOPs of an encoder per image, counted by torch on the meta device, which computes nothing."""
    with torch.device("meta"):
        model, image = BUILD[name](image_px, depth).eval(), torch.empty(1, 3, image_px, image_px)
        # torch 2.13 does not count the default CPU attention; it counts the math backend in full. Gradients are on,
        # because torch does not count the fused attention that open_clip's blocks call without them.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(image)
    return int(counter.get_total_flops())
