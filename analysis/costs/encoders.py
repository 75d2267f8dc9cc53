"""Encoders at matched tokens, precision and batch, timed in turn. Letters: B images, R rounds."""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from aimv2.base.errors import UsageError
from aimv2.request.resolve import with_attention
from benchmarks.encoder import PRECISIONS, PRODUCT, Precision
from benchmarks.peak import peak_bytes
from benchmarks.timing import interleaved
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.benchmark import timer
from torch.utils.flop_counter import FlopCounterMode

from aimv2.config.recipes.scales import vit_l
from aimv2.config.run_config import RunConfig
from aimv2.cost.modules import encoder_cost
from aimv2.cost.parts import forward_flops
from aimv2.model.encoder import Encoder
from aimv2.model.initial import init_weights_
from aimv2.training.rate import product_shape
from analysis.costs.architectures import ARCHITECTURES, OURS
from analysis.costs.measurements import EncoderCost, EncoderSetting, rounded

DEPTH = 24  # of all four


def encoder_config(image_px: int, depth: int) -> RunConfig:
    """Return the recipe ``vit_l`` with images of this size and an encoder of this depth."""
    config = with_attention(vit_l())
    model = replace(config.model, image_px=image_px, encoder=replace(config.model.encoder, depth=depth))
    return replace(config, model=model, data=replace(config.data, render_px=image_px))


def _aimv2(image_px: int, depth: int) -> nn.Module:
    encoder = Encoder(encoder_config(image_px, depth).model)
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
                f" pip install 'aimv2-ablations[dev]', or leave it out: models={OURS}"
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


@dataclass(frozen=True, kw_only=True)
class EncoderStudy:
    """What to measure of which encoders.

    Attributes:
        patches: numbers of patches per image, squares.
        rounds: timings of each encoder by batch size.
        clock: returns seconds, after waiting for the device.
    """

    names: tuple[str, ...]
    patches: tuple[int, ...]
    precisions: tuple[str, ...]
    rounds: Mapping[int, int]
    depth: int = DEPTH
    device: str = "cpu"
    clock: Callable[[], float] = timer

    def measure(self, progress: Callable[[str], None]) -> Iterator[EncoderSetting]:
        """Measure setting by setting. All encoders of a resolution are in memory together."""
        for patches in self.patches:
            side = math.isqrt(patches)
            sizes = {name: side * ARCHITECTURES[name].patch_px for name in self.names}
            models = {name: BUILD[name](px, self.depth).eval() for name, px in sizes.items()}
            flops = {name: counted_flops(name, px, self.depth) for name, px in sizes.items()}
            for precision in (name for name in PRECISIONS if name in self.precisions):
                for model in models.values():
                    model.to(self.device, PRECISIONS[precision])
                for batch_size in self.rounds:
                    progress(f"encoders, {patches} patches, {precision}, batch {batch_size}")
                    yield self._setting(models, flops, patches, precision, batch_size)

    def _setting(
        self,
        models: Mapping[str, nn.Module],
        flops: Mapping[str, int],
        patches: int,
        precision: Precision,
        batch_size: int,
    ) -> EncoderSetting:
        """Measure the encoders at one setting."""
        side, dtype = math.isqrt(patches), PRECISIONS[precision]
        calls: dict[str, Callable[[], object]] = {}
        for name, model in models.items():
            px = side * ARCHITECTURES[name].patch_px
            calls[name] = partial(model, torch.randn(batch_size, 3, px, px).to(self.device, dtype))
        config = encoder_config(side * ARCHITECTURES[OURS].patch_px, self.depth)
        rows, width, columns = product_shape(config, batch_size)
        left, right = (torch.randn(size, width).to(self.device, dtype) for size in (rows, columns))
        calls[PRODUCT] = partial(torch.mm, left, right.T)  # as in a linear layer
        with torch.inference_mode():
            share = CpuShare()
            seconds = interleaved(calls, self.rounds[batch_size], clock=self.clock, min_seconds=0)
            cpu_share = share.read()
            peaks = {name: peak_bytes(calls[name], self.device) for name in models}
        closed_form = forward_flops([encoder_cost(config)], 1, 0)
        return EncoderSetting(
            patches=patches,
            precision=precision,
            batch_size=batch_size,
            product_flops=2 * rows * width * columns,
            product_seconds=rounded(seconds[PRODUCT].tolist()),
            cpu_share=cpu_share,
            encoders=[
                EncoderCost(
                    encoder=name,
                    image_px=side * ARCHITECTURES[name].patch_px,
                    num_tokens=patches + ARCHITECTURES[name].class_tokens,
                    seconds=rounded(seconds[name].tolist()),
                    peak_bytes=peaks[name],
                    flops=flops[name],
                    closed_form=closed_form if name == OURS else None,
                    **_weights(model),
                )
                for name, model in models.items()
            ],
        )


class CpuShare:
    """Measures the share of its threads' time that this process gets, from its construction on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> float:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return round(cpu / wall / torch.get_num_threads(), 3)


def _weights(model: nn.Module) -> dict[str, Any]:
    weights: list[Tensor] = list(model.parameters())
    return {
        "parameters": sum(weight.numel() for weight in weights),
        "parameter_bytes": sum(weight.nbytes for weight in weights),
    }
