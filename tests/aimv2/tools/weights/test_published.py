"""Conversion from and to published layouts, against the implementations of each layout."""

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from transformers import Aimv2Model, Aimv2VisionModel

from aimv2.tools.weights import (
    load_dual_encoder,
    load_encoder,
    read_published,
    read_weights,
    write_published,
    write_weights,
)

SIZES = [  # width, heads and depth here; heads are 128 wide in all
    pytest.param(768, 6, 2, id="base"),
    pytest.param(1024, 8, 1, id="large"),
    pytest.param(1536, 12, 1, id="huge"),
    pytest.param(2048, 16, 1, id="1b"),
    pytest.param(3072, 24, 1, id="3b"),
]


def to_ours(source, target):
    write_weights(read_published(source), target)
    return target


def to_others(source, target, layout="transformers"):
    return write_published(read_weights(source), target, layout)


def assert_same(actual, expected):
    error = (actual - expected).norm() / expected.norm()
    assert error <= 1e-5, f"relative error {error:.1e}"


def assert_equal_files(one, other):
    one, other = (load_file(next(folder.glob("*.safetensors"))) for folder in (one, other))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def check_both_ways(make, load, folder, layout, *sizes):
    foreign = make[layout](folder / "foreign", *sizes)
    image = torch.randn(2, 3, 56, 56)
    expected = foreign(image)
    ours = load_encoder(to_ours(folder / "foreign", folder / "ours"))
    assert_same(ours(image), expected)
    to_others(folder / "ours", folder / "back", layout)
    assert_same(load[layout](folder / "back")(image), expected)
    assert_equal_files(folder / "foreign", folder / "back")


@pytest.mark.exhaustive
@torch.no_grad()
@pytest.mark.parametrize(("width", "num_heads", "depth"), SIZES)
def test_every_size_keeps_its_features_from_and_to_transformers(width, num_heads, depth, make, load, tmp_path):
    check_both_ways(make, load, tmp_path, "transformers", width, num_heads, depth)
    for path in tmp_path.rglob("*.safetensors"):
        path.unlink()  # gigabytes that pytest would keep


@torch.no_grad()
def test_layout_of_apple_keeps_features_both_ways(make, load, tmp_path):
    check_both_ways(make, load, tmp_path, "ml-aim", 256, 2, 2)


@torch.no_grad()
def test_head_is_omitted(make, tmp_path):
    theirs = make["transformers"](tmp_path / "foreign", 256, 2, 1, use_head=True)
    head = sorted(name for name in load_file(tmp_path / "foreign/model.safetensors") if name.startswith("head."))
    omitted = read_published(tmp_path / "foreign").omitted
    assert omitted == f"{', '.join(head)}: our encoder has no attention-pooling head"
    image = torch.randn(2, 3, 56, 56)
    assert_same(load_encoder(to_ours(tmp_path / "foreign", tmp_path / "ours"))(image), theirs(image))


@torch.no_grad()
def test_conversion_through_all_layouts_returns_the_same_file(make, load, tmp_path):
    expected = make["transformers"](tmp_path / "transformers", 32, 4, 12)  # twelve blocks: 10 sorts before 2 as text
    at = tmp_path / "transformers"
    for step, layout in enumerate(["ml-aim", "transformers"]):
        ours = to_ours(at, tmp_path / f"ours{step}")
        assert_equal_files(ours, tmp_path / "ours0")
        at = tmp_path / f"there{step}"
        to_others(ours, at, layout)
    assert_equal_files(tmp_path / "transformers", at)
    image = torch.randn(2, 3, 56, 56)
    assert_same(load["transformers"](at)(image), expected(image))
    assert read_published(at).config.encoder.num_heads == 4


@torch.no_grad()
def test_timm_loads_an_export_in_the_layout_of_apple(make, tmp_path):
    make["transformers"](tmp_path / "foreign", 1024, 8, 1)
    ours = to_ours(tmp_path / "foreign", tmp_path / "ours")
    to_others(ours, tmp_path / "apple", "ml-aim")
    overlay = {"file": str(tmp_path / "apple/weights.safetensors"), "num_classes": 0}
    sizes = {"img_size": 56, "depth": 1, "num_classes": 0}
    model = timm.create_model(
        "aimv2_large_patch14_224", pretrained=True, pretrained_cfg_overlay=overlay, **sizes
    ).eval()
    image = torch.randn(1, 3, 56, 56)
    assert_same(model.forward_features(image), load_encoder(ours)(image))


def test_permissions_of_written_files_follow_the_umask(foreign, assert_shared, tmp_path):
    to_others(to_ours(foreign, tmp_path / "new/ours"), tmp_path / "new/there")
    assert_shared(tmp_path / "new")


def test_shards_of_transformers_are_read_as_one(foreign, tmp_path):
    Aimv2VisionModel.from_pretrained(foreign).save_pretrained(tmp_path / "shards", max_shard_size="500KB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 1
    to_ours(foreign, tmp_path / "whole")
    for number, source in enumerate(["shards", "shards/model.safetensors.index.json"]):
        assert_equal_files(to_ours(tmp_path / source, tmp_path / f"ours{number}"), tmp_path / "whole")


@torch.no_grad()
@pytest.mark.parametrize("log_scale", [2.5, 6.0])  # 6 is above the largest scale, 100
def test_pair_of_encoders_keeps_embeddings_and_logits(log_scale, make_pair, assert_same_pair, tmp_path):
    theirs = make_pair(tmp_path / "foreign", log_scale=log_scale)
    ours = load_dual_encoder(to_ours(tmp_path / "foreign", tmp_path / "ours"))
    # Padding with 0 or with end-of-text: nothing after the first end-of-text is read.
    for padding in (0, 7):
        assert_same_pair(ours, theirs, end_id=7, num_tokens=9, vocab_size=50, image_px=56, padding=padding)
    to_others(tmp_path / "ours", tmp_path / "back")
    back, info = Aimv2Model.from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_same_pair(ours, back.eval(), end_id=7, num_tokens=9, vocab_size=50, image_px=56, padding=0)
    assert_equal_files(tmp_path / "foreign", tmp_path / "back")


@torch.no_grad()
def test_layout_without_text_tower_gets_only_the_encoder(make_pair, load, tmp_path):
    theirs = make_pair(tmp_path / "foreign")
    ours = to_ours(tmp_path / "foreign", tmp_path / "ours")
    to_others(ours, tmp_path / "there", "ml-aim")
    image = torch.randn(1, 3, 56, 56)
    expected = theirs.vision_model(pixel_values=image).last_hidden_state
    assert_same(load_encoder(ours)(image), expected)
    assert_same(load["ml-aim"](tmp_path / "there")(image), expected)


@torch.no_grad()
@pytest.mark.parametrize("layout", ["transformers", "ml-aim"])
def test_native_resolution_takes_images_of_any_shape(layout, make, load, tmp_path):
    theirs = make["transformers"](tmp_path / "foreign", 128, 1, 2, is_native=True, image_size=84)
    ours = to_ours(tmp_path / "foreign", tmp_path / "ours")
    to_others(ours, tmp_path / "there", layout)
    again = to_ours(tmp_path / "there", tmp_path / "again")
    to_others(again, tmp_path / "back")
    back = load["transformers"](tmp_path / "back")
    for height, width in ((56, 84), (84, 56), (28, 28)):
        image = torch.randn(1, 3, height, width)
        expected = theirs(image)
        assert_same(load_encoder(ours)(image), expected)
        assert_same(load_encoder(again)(image), expected)
        assert_same(back(image), expected)
    assert read_weights(again).config.image_px == 84


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32_exactly(dtype, foreign, tmp_path):
    Aimv2VisionModel.from_pretrained(foreign).to(dtype).save_pretrained(tmp_path / "half")
    theirs, ours = load_file(tmp_path / "half/model.safetensors"), read_published(tmp_path / "half")
    assert {value.dtype for value in theirs.values()} == {dtype}
    assert {value.dtype for value in ours.tensors.values()} == {torch.float32}
    gate, up = ours.tensors["encoder.blocks.0.ffn.gate_up.weight"].chunk(2)
    assert torch.equal(gate, theirs["encoder.layers.0.ffn.gate_proj.weight"].float())
    assert torch.equal(up, theirs["encoder.layers.0.ffn.up_proj.weight"].float())
    assert ours.config.source.dtypes == (str(dtype).removeprefix("torch."),)


def test_weights_in_no_published_layout_are_refused(foreign, refusal, tmp_path):
    save_file({"some.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    message = refusal(read_published, tmp_path / "other.safetensors")
    assert "'some.weight'" in message
    assert "embeddings.patch_embed.weight or preprocessor.patchifier.proj.weight" in message
    message = refusal(read_published, foreign, "ml-aim")
    assert "not an AIMv2 in layout=ml-aim, which has preprocessor.patchifier.proj.weight;" in message
    assert "our names already" in refusal(read_published, to_ours(foreign, tmp_path / "ours"))
