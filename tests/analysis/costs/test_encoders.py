"""Encoders of a cost study: their sizes, their FLOPs, and a study of shallow ones on a fake clock."""

import sys
from itertools import count

import pytest
import torch
from aimv2.base.errors import UsageError
from open_clip import get_model_config
from open_clip.model import CLIP

from analysis.costs.architectures import ARCHITECTURES
from analysis.costs.encoders import BUILD, EncoderStudy, counted_flops, encoder_config, require_packages

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


def test_ours_has_the_same_patches_as_the_others():
    assert [encoder_config(px, 24).model.num_patches for px in (224, 336)] == [256, 576]


@pytest.fixture(scope="module")
def settings():
    ticks, seen = count(), []
    study = EncoderStudy(
        names=tuple(ARCHITECTURES),
        patches=(16,),
        precisions=("bfloat16", "float32"),
        rounds={1: 3, 2: 2},
        depth=1,
        clock=lambda: float(next(ticks)),
    )
    found = list(study.measure(seen.append))
    assert seen == [
        f"encoders, 16 patches, {precision}, batch {size}" for precision in ("float32", "bfloat16") for size in (1, 2)
    ]
    return found


def test_study_has_a_setting_for_each_precision_and_batch(settings):
    assert [(one.precision, one.batch_size) for one in settings] == [
        ("float32", 1),
        ("float32", 2),
        ("bfloat16", 1),
        ("bfloat16", 2),
    ]
    for setting in settings:
        assert [one.encoder for one in setting.encoders] == list(ARCHITECTURES)
        assert [one.image_px for one in setting.encoders] == [56, 56, 64, 56]
        assert [one.num_tokens for one in setting.encoders] == [16, 17, 16, 17]


def test_every_round_times_every_call_once(settings):
    for setting in settings:
        num_rounds = {1: 3, 2: 2}[setting.batch_size]
        assert [one.seconds for one in setting.encoders] == [[1.0] * num_rounds] * 4, "a tick of the clock per call"
        assert setting.product_seconds == [1.0] * num_rounds


def test_ours_has_the_flops_of_its_closed_form(settings):
    for setting in settings:
        ours, *others = setting.encoders
        assert ours.flops == ours.closed_form
        assert {one.closed_form for one in others} == {None}
        assert setting.product_flops == 2 * setting.batch_size * 16 * 1024 * 2 * 2816


def test_weights_take_the_bytes_of_their_precision(settings):
    for setting in settings:
        size = {"float32": 4, "bfloat16": 2}[setting.precision]
        assert all(one.parameter_bytes == size * one.parameters for one in setting.encoders)


def test_memory_is_at_least_that_of_the_ffn_and_grows_with_the_batch(settings):
    """The hidden activations of an FFN, of which ours has the narrowest, beside its input."""
    for setting in settings:
        size = {"float32": 4, "bfloat16": 2}[setting.precision] * setting.batch_size
        assert all(one.peak_bytes >= size * one.num_tokens * (2816 + 1024) for one in setting.encoders)
    single, double = (setting.encoders[0] for setting in settings[:2])
    assert double.peak_bytes == pytest.approx(2 * single.peak_bytes, rel=0.1), "ours has no scratch memory"


@pytest.mark.parametrize(("name", "package"), [("clip", "open_clip"), ("dinov2", "timm")])
def test_missing_package_is_named_with_the_command_to_install_it(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"models={name} needs the package {package}.*pip install .*models=aimv2"):
        require_packages(["aimv2", name])
    require_packages(["aimv2"])
