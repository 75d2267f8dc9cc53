"""Encoders of the cost study: their sizes and their FLOPs."""

import sys

import pytest
import torch
from open_clip import get_model_config
from open_clip.model import CLIP

from aimv2.analysis.costs.measurements import ARCHITECTURES
from aimv2.base.errors import UsageError
from benchmarks.cost_encoders import BUILD, counted_flops, require_packages

WIDTH, HIDDEN = 1024, 4096


def shapes(model):
    return {name: tuple(weight.shape) for name, weight in model.named_parameters()}


def on_meta(name, image_px, depth=24):
    with torch.device("meta"):
        return BUILD[name](image_px, depth)


@pytest.mark.parametrize(
    ("name", "image_px", "millions"),
    [("aimv2", 224, 309.2), ("clip", 224, 304.0), ("siglip", 256, 303.4), ("dinov2", 518, 304.4)],
)
def test_encoders_have_their_published_sizes(name, image_px, millions):
    """Table 1 of AIMv2; open_clip's and DINOv2's model cards; SigLIP's 316.0 M without its pooling of 12.6 M."""
    parameters = sum(weight.numel() for weight in on_meta(name, image_px).parameters())
    assert parameters / 1e6 == pytest.approx(millions, abs=0.06)


def test_clips_tower_is_open_clips():
    with torch.device("meta"):
        theirs = CLIP(**get_model_config("ViT-L-14")).visual
    assert shapes(on_meta("clip", 224)) == shapes(theirs)


def vit_flops(image_px, patch_px, class_tokens, depth):
    """Return the FLOPs of a ViT with an FFN of two layers."""
    patches = (image_px // patch_px) ** 2
    L = patches + class_tokens
    embed = patches * 3 * patch_px**2 * WIDTH
    block = L * (4 * WIDTH**2 + 2 * WIDTH * HIDDEN) + 2 * L**2 * WIDTH
    return 2 * (embed + depth * block)


@pytest.mark.parametrize(
    ("name", "image_px", "more"),
    [("clip", 224, 2 * WIDTH * 768), ("siglip", 256, 0), ("dinov2", 224, 0), ("clip", 336, 2 * WIDTH * 768)],
)
def test_counted_flops_are_the_closed_form_of_a_vit(name, image_px, more):
    """CLIP also projects its class token into the shared space."""
    one = ARCHITECTURES[name]
    assert counted_flops(name, image_px, 2) == vit_flops(image_px, one.patch_px, one.class_tokens, 2) + more


@pytest.mark.parametrize(("name", "package"), [("clip", "open_clip"), ("dinov2", "timm")])
def test_missing_package_is_named_with_the_command_to_install_it(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"models={name} needs the package {package}.*pip install .*models=.aimv2"):
        require_packages(["aimv2", name])
    require_packages(["aimv2"])
