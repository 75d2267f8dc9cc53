"""Folders of weights: published ones, ours, finished runs, and untrusted files."""

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import Aimv2VisionModel, AutoImageProcessor

from aimv2.base.errors import UsageError
from aimv2.config.program import replaced
from aimv2.data.transforms import Colours, network_input
from aimv2.datasets.labelled import Shape
from aimv2.objectives.build import build
from aimv2.runs.record import RunFolder
from aimv2.tools.weights import (
    AS_TRAINED,
    PREPROCESSING,
    UNCHANGED,
    Preprocessing,
    find,
    load_encoder,
    read_preprocessing,
    read_published,
    read_tensors,
    read_weights,
    write_folder,
    write_published,
    write_weights,
)
from aimv2.tools.weights_command import weights_command
from tests.helpers.marks import exhaustive
from tests.helpers.public_encoders import as_pair_of_transformers

SIZES = [  # layout; width, heads and depth here
    ("ml-aim", (256, 2, 2)),
    ("transformers", (32, 4, 12)),  # twelve blocks: 10 sorts before 2 as text; heads are 128 wide in the others
    *(
        exhaustive("transformers", sizes)
        for sizes in ((768, 6, 2), (1024, 8, 1), (1536, 12, 1), (2048, 16, 1), (3072, 24, 1))
    ),
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
    assert read_published(folder / "back").config.encoder.num_heads == sizes[1]


@torch.no_grad()
@pytest.mark.parametrize(("layout", "sizes"), SIZES)
def test_every_size_keeps_its_features_both_ways(layout, sizes, make, load, tmp_path):
    check_both_ways(make, load, tmp_path, layout, *sizes)
    for path in tmp_path.rglob("*.safetensors"):
        path.unlink()  # gigabytes that pytest would keep


@torch.no_grad()
def test_head_is_omitted(make, tmp_path):
    theirs = make["transformers"](tmp_path / "foreign", 256, 2, 1, use_head=True)
    head = sorted(name for name in load_file(tmp_path / "foreign/model.safetensors") if name.startswith("head."))
    omitted = read_published(tmp_path / "foreign").omitted
    assert omitted == f"{', '.join(head)}: our encoder has no attention-pooling head"
    image = torch.randn(2, 3, 56, 56)
    assert_same(load_encoder(to_ours(tmp_path / "foreign", tmp_path / "ours"))(image), theirs(image))


@torch.no_grad()
def test_timm_loads_an_export_in_the_layout_of_apple(make, tmp_path):
    make["transformers"](tmp_path / "foreign", 1024, 8, 1)
    ours = to_ours(tmp_path / "foreign", tmp_path / "ours")
    to_others(ours, tmp_path / "apple", "ml-aim")
    overlay = {"file": str(tmp_path / "apple/weights.safetensors"), "num_classes": 0}
    values = {"img_size": 56, "depth": 1, "num_classes": 0, "pretrained": True, "pretrained_cfg_overlay": overlay}
    model = timm.create_model("aimv2_large_patch14_224", **values).eval()
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
def test_of_a_pair_of_encoders_that_of_images_is_read(make_pair, load, tmp_path):
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
    assert "our names already" in refusal(read_published, to_ours(foreign, tmp_path / "ours"))


@pytest.fixture
def ours(foreign, tmp_path):
    """A folder under our names: width 128, one head, one block."""
    write_weights(read_published(foreign), tmp_path / "ours")
    return tmp_path / "ours"


def test_layout_of_the_config_is_pinned(ours):
    """Users' folders depend on it. If it must change, raise layout_version and read the old layout too."""
    source = {"layout": "transformers", "file": "model.safetensors", "dtypes": ["float32"], "resampled_from_px": None}
    sizes = {"width": 128, "depth": 1, "num_heads": 1}
    encoder = sizes | {"norm": "rms", "ffn": "swiglu", "attention": "auto", "positions": "learned"}
    model = {"image_px": 56, "patch_px": 14, "patch_order": "raster", "encoder": encoder}
    assert json.loads((ours / "config.json").read_text()) == {"layout_version": 1, "source": source} | model


def test_another_ffn_is_written_and_read(ours, tmp_path):
    weights = read_weights(ours)
    encoder = replace(weights.config.encoder, ffn_multiple=32)  # 352 at width 128, where 256 gives 512
    ffn = "encoder.blocks.0.ffn"
    tensors = weights.tensors | {
        f"{ffn}.gate_up.weight": weights.tensors[f"{ffn}.gate_up.weight"][:704],
        f"{ffn}.down.weight": weights.tensors[f"{ffn}.down.weight"][:, :352].contiguous(),
    }
    other = weights._replace(config=replace(weights.config, encoder=encoder), tensors=tensors)
    write_weights(other, tmp_path / "other")
    assert json.loads((tmp_path / "other/config.json").read_text())["encoder"]["ffn_multiple"] == 32
    assert read_weights(tmp_path / "other").config == other.config


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("layout_version", 2, "layout_version"),
        ("image_px", 70, "'encoder.pos_embed' [1, 16, 128], expected [1, 25, 128]"),
        ("image_px", 10**12 * 14, "image_px: Input should be less than or equal to 8192 (got 14000000000000)"),
        ("encoder.width", 256, "of another shape"),
        ("encoder.width", 10**12, "encoder: width: Input should be less than or equal to 65536 (got 1000000000000)"),
        ("encoder.depth", 2, "6 missing ('encoder.blocks.1."),
        ("encoder.depth", 10**9, "encoder: depth: Input should be less than or equal to 1024 (got 1000000000)"),
        ("encoder.positions", "sincos", "1 unexpected ('encoder.pos_embed')"),
        ("encoder.norm", "layer", "missing ('encoder.patch_norm.bias'"),
        ("encoder.ffn", "gelu", "missing"),
    ],
)
def test_folder_of_ours_with_a_wrong_config_is_refused(key, value, message, ours, edit_json, refusal):
    edit_json(ours, {key: value})
    assert message in refusal(read_weights, ours)


def test_other_folders_are_refused(foreign, initialised_run, tiny, refusal, tmp_path):
    assert "weights import" in refusal(read_weights, foreign)
    assert "is neither the folder of a run nor one of: weights import" in refusal(read_weights, tmp_path)
    folder, _ = initialised_run(tmp_path / "runs", tiny)
    assert "is the folder of a run; use: weights export" in refusal(read_published, folder)
    for weights in (folder / "attempts/0001", folder / "attempts/0001/weights.safetensors"):
        assert "use weights export with its folder, or its run's" in refusal(read_published, weights)


def test_loaded_encoder_is_in_eval_mode_and_trainable(ours):
    encoder = load_encoder(str(ours))
    assert not encoder.training
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    before = encoder.norm.weight.clone()
    (ours / "weights.safetensors").write_bytes(bytes((ours / "weights.safetensors").stat().st_size))
    assert torch.equal(encoder.norm.weight, before), "the network is still in the file"


@torch.no_grad()
@pytest.mark.parametrize(
    ("layout", "values", "omitted"),
    [
        ("transformers", {}, "decoder"),
        ("transformers", {"model.encoder.positions": "sincos"}, "decoder"),
        ("ml-aim", {}, "decoder"),
        ("transformers", {"objective.name": "siglip"}, "image_head, similarity, text_tower"),
    ],
)
def test_encoder_of_a_finished_run_is_exported(layout, values, omitted, initialised_run, tiny, images, load, tmp_path):
    folder, network = initialised_run(tmp_path / "runs", replaced(tiny, values))
    expected = network.encoder(images)
    assert torch.equal(load_encoder(folder)(images), expected)
    run = read_weights(folder)
    assert run.omitted == omitted
    write_published(run, tmp_path / "there", layout)
    is_native = json.loads((tmp_path / "there/config.json").read_text())["is_native"]
    assert is_native is ("model.encoder.positions" in values)
    torch.testing.assert_close(load[layout](tmp_path / "there")(images), expected)
    write_weights(read_published(tmp_path / "there"), tmp_path / "ours")
    assert torch.equal(load_encoder(tmp_path / "ours")(images), expected)


@torch.no_grad()
@pytest.mark.parametrize("log_scale", [2.5, 6.0])  # 6 is above the largest scale, 100
def test_both_encoders_are_those_of_transformers(log_scale, tiny, images):
    """Oracle of the network that contrastive objectives train."""
    model, end_id, T = tiny.model, 1, 12
    network = build(replaced(tiny, {"objective.name": "clip"})).eval()
    network.similarity.logit_scale.data.fill_(log_scale)
    theirs = as_pair_of_transformers(network, model, end_id=end_id)
    for padding in (0, end_id):  # nothing after the first end-of-text is read
        # Captions of 1 to T tokens, end-of-text included, and padding behind.
        token_BT, text_len_B = torch.randint(end_id + 1, model.vocab_size, (T, T)), torch.arange(1, T + 1)
        for row, length in enumerate(text_len_B.tolist()):
            token_BT[row, length - 1], token_BT[row, length:] = end_id, padding
        image_BS, text_BS = network.embed_images(images), network.embed_texts(token_BT, text_len_B)
        # transformers 5.24 drops a mask that hides nothing, and with it causality, when it computes attention by SDPA.
        not_padding_BT = (torch.arange(T) < text_len_B[:, None]).long()
        for implementation, mask_BT in (("eager", torch.ones_like(token_BT)), ("sdpa", not_padding_BT)):
            theirs.set_attn_implementation(implementation)
            out = theirs(input_ids=token_BT, pixel_values=images, attention_mask=mask_BT)
            assert_same(image_BS, out.image_embeds)
            assert_same(text_BS, out.text_embeds)
            assert_same(network.similarity(image_BS, text_BS), out.logits_per_image)


def test_of_an_older_folder_with_a_pair_the_image_encoder_is_read(ours, edit_json):
    path = ours / "weights.safetensors"
    expected = read_weights(ours)
    edit_json(ours, {"text_tower": {"width": 32}})
    save_file(load_file(path) | {"text_tower.norm.weight": torch.ones(32)}, path)
    found = read_weights(ours)
    assert (found.config, found.tensors.keys()) == (expected.config, expected.tensors.keys())
    assert found.omitted == "text_tower"
    edit_json(ours, {"text_tower": None})
    with pytest.raises(UsageError, match=r"1 unexpected \('text_tower.norm.weight'\)"):
        read_weights(ours)


@torch.no_grad()
@pytest.mark.parametrize("layout", ["transformers", "ml-aim"])
@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("encoder.norm", "layer", "norm='layer' in place of 'rms'"),
        ("encoder.ffn", "gelu", "ffn='gelu' in place of 'swiglu'"),
        ("patch_order", "spiral", "patch_order='spiral' in place of 'raster'"),
    ],
)
def test_encoder_that_no_layout_has_is_loaded_but_not_exported(
    key, value, reason, layout, initialised_run, tiny, images, refusal, tmp_path
):
    folder, network = initialised_run(tmp_path / "runs", replaced(tiny, {f"model.{key}": value}))
    assert torch.equal(load_encoder(folder)(images), network.encoder(images))
    message = refusal(write_published, read_weights(folder), tmp_path / "there", layout)
    assert reason in message
    assert f"layout={layout}" in message
    assert not (tmp_path / "there").exists()


def test_unfinished_or_incomplete_run_is_refused(initialised_run, tiny, edit_json, refusal, tmp_path):
    unfinished = RunFolder(tmp_path / "runs", tiny.name)
    with unfinished.acquire(tiny):
        pass
    assert "is not finished" in refusal(read_weights, unfinished.path)
    folder, network = initialised_run(tmp_path / "done", tiny)
    weights = next(folder.rglob("weights.safetensors"))
    state = network.state_dict()
    del state["encoder.norm.weight"]
    save_file(state, weights)
    assert "1 missing ('encoder.norm.weight')" in refusal(read_weights, folder)
    edit_json(folder, {"model.encoder.depth": 3})
    assert "encoder.blocks.2.norm1.weight" in refusal(read_weights, folder)
    weights.unlink()
    assert "weights.safetensors" in refusal(read_weights, folder)
    edit_json(folder, {"seed": -1})
    assert "seed" in refusal(read_weights, folder)


INDEX = "model.safetensors.index.json"


@pytest.fixture
def tensors():
    return {name: torch.randn(4, 3) for name in "abcde"}


@pytest.fixture
def shards(tmp_path, tensors):
    """A folder of two shards, the contents of their index, and a file of tensors outside the folder."""
    folder = tmp_path / "shards"
    folder.mkdir()
    file_of = dict.fromkeys("abc", "1.safetensors") | dict.fromkeys("de", "2.safetensors")
    for shard in ("1.safetensors", "2.safetensors"):
        save_file({name: tensors[name] for name in tensors if file_of[name] == shard}, folder / shard)
    save_file({"a": torch.zeros(1)}, tmp_path / "outside.safetensors")
    return folder, file_of


def write_index(folder, file_of):
    (folder / INDEX).write_text(json.dumps({"weight_map": file_of}))
    return folder / INDEX


def test_a_pickle_is_not_opened(refusal, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    torch.save({"a": Trap()}, tmp_path / "aimv2.pth")
    assert "convert one of torch.save" in refusal(read_tensors, tmp_path / "aimv2.pth")
    assert not (tmp_path / "trapped").exists()


def test_weights_are_found_in_a_folder(shards, tmp_path):
    folder, file_of = shards
    assert find(folder / "1.safetensors") == folder / "1.safetensors"
    write_index(folder, file_of)
    assert find(folder) == folder / INDEX
    (folder / "model.safetensors").write_bytes((folder / "1.safetensors").read_bytes())
    assert find(folder) == folder / "model.safetensors"


def test_missing_weights_are_refused(refusal, tmp_path):
    assert "no such file or folder" in refusal(find, tmp_path / "nowhere")
    assert "has no weights" in refusal(find, tmp_path)
    (tmp_path / "model.safetensors").mkdir()
    assert "has no weights" in refusal(find, tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    assert "must be a .safetensors" in refusal(read_tensors, tmp_path / "notes.txt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({"a": shard}, "not a file beside it") for shard in ("../outside.safetensors", "3.safetensors", "x" * 9999)),
        ({"a": "{parent}/outside.safetensors"}, "not a file beside it"),
        ({"f": "2.safetensors"}, "index lists: 'f'"),
        ({"e": None}, "index lists: 'e'"),
        ({"a": 1}, "must have a weight_map"),
    ],
)
def test_index_that_leads_elsewhere_or_differs_from_its_files_is_refused(changes, message, shards, refusal, tmp_path):
    folder, file_of = shards
    for name, shard in changes.items():
        file_of[name] = shard.format(parent=tmp_path) if isinstance(shard, str) else shard
    index = write_index(folder, {name: shard for name, shard in file_of.items() if shard is not None})
    assert message in refusal(read_tensors, index)
    for content in ('{"weight_map": []}', "{}"):
        index.write_text(content)
        assert "must have a weight_map" in refusal(read_tensors, index)


def test_file_with_a_flipped_byte_is_read_or_refused(tensors, refusal, tmp_path):
    path = tmp_path / "aimv2.safetensors"
    save_file(tensors, path)
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    generator = torch.Generator().manual_seed(0)
    num_refused = 0
    for _ in range(100):
        place, byte = (int(torch.randint(0, high, (), generator=generator)) for high in (header, 256))
        path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
        try:
            read_tensors(path)
        except UsageError:
            num_refused += 1
    assert num_refused > 50
    for content in (b"", whole[:7], whole[:8], whole[:header], whole[: header + 1], whole[:-1], whole + b"x"):
        path.write_bytes(content)
        assert "cannot be read as safetensors" in refusal(read_tensors, path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(2, dtype=torch.int64), "'a' is torch.int64"),
        (torch.zeros(2, dtype=torch.float8_e4m3fn), "'a' is torch.float8_e4m3fn"),
        (torch.zeros(0, 3), "'a' of shape [0, 3] holds no values"),
    ],
)
def test_tensors_of_other_types_are_refused(value, message, refusal, tmp_path):
    save_file({"a": value}, tmp_path / "aimv2.safetensors")
    assert message in refusal(read_tensors, tmp_path / "aimv2.safetensors")


def test_existing_files_are_not_overwritten(tensors, refusal, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for target in ("full", "file"):
        assert "not an empty folder" in refusal(write_folder, tmp_path / target, "x.safetensors", tensors, {})
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "empty", "x.safetensors", tensors, {"a": 1})
    assert {path.name for path in (tmp_path / "empty").iterdir()} == {"x.safetensors", "config.json"}
    with safe_open(tmp_path / "empty/x.safetensors", framework="pt") as written:
        assert set(written.keys()) == tensors.keys()
        assert written.metadata() == {"format": "pt"}  # older versions of transformers require it


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: No space left")])
def test_full_disk_leaves_no_partial_files(error, tensors, refusal, tmp_path, monkeypatch):
    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half of it")
        raise error

    monkeypatch.setattr("safetensors.torch.serialize_file", full)
    assert "No space left" in refusal(write_folder, tmp_path / "new", "x.safetensors", tensors, {})
    assert not any(tmp_path.iterdir())


OTHER = Preprocessing(Colours((0.48, 0.46, 0.41), (0.27, 0.26, 0.28)), 224 / 256)


@pytest.mark.parametrize("preprocessing", [AS_TRAINED, OTHER], ids=["as-trained", "other"])
def test_transformers_prepares_images_as_an_evaluation_does(preprocessing, tmp_path):
    (tmp_path / PREPROCESSING).write_text(preprocessing.to_json(56))
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    picture = Image.effect_noise((12, 9), 90).convert("RGB").resize((160, 120), Image.Resampling.BICUBIC)
    (theirs,) = processor(picture, return_tensors="pt")["pixel_values"]
    picture.save(content := io.BytesIO(), "PNG")
    shown = Shape(56, preprocessing.crop, 10**6).shown(content.getvalue())
    (ours,) = network_input(torch.from_numpy(np.ascontiguousarray(shown)[None]), preprocessing.colours)
    assert theirs.shape == ours.shape
    assert (theirs - ours).abs().max() < 2.5 / 255 / min(preprocessing.colours.std), "a rounding of a pixel or two"


@given(
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(0.01, 1)] * 3),
    side=st.integers(1, 600),
    border=st.integers(0, 300),
)
def test_what_is_written_is_read(tmp_path_factory, mean, std, side, border):
    folder = tmp_path_factory.mktemp("weights")
    written = Preprocessing(Colours(mean, std), side / (side + border))
    (folder / PREPROCESSING).write_text(written.to_json(side))
    found = read_preprocessing(folder)
    assert found is not None
    assert found.colours == written.colours
    assert found.crop == pytest.approx(written.crop)
    assert read_preprocessing(folder / "model.safetensors") == found


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"image_mean": [0.5, 0.5]}, "image_mean and image_std must be three numbers each"),
        ({"image_mean": "imagenet"}, "image_mean and image_std must be three numbers each"),
        ({"image_std": [0.5, 0.5, 0]}, "image_std has 0, and must be above 0"),
        ({"image_std": [0.5, 0.5, float("nan")]}, "image_mean and image_std must be three numbers each"),
        ({"image_mean": [10**400, 0, 0]}, "image_mean and image_std must be three numbers each"),
        ({"do_rescale": False}, "do_rescale and rescale_factor must make 0 to 1 of 0 to 255"),
        ({"rescale_factor": 1}, "do_rescale and rescale_factor must make 0 to 1 of 0 to 255"),
        ({"rescale_factor": None}, "do_rescale and rescale_factor must make 0 to 1 of 0 to 255"),
    ],
)
def test_what_are_no_colours_is_one_sentence(tmp_path, values, sentence):
    (tmp_path / PREPROCESSING).write_text(json.dumps(json.loads(AS_TRAINED.to_json(224)) | values))
    with pytest.raises(UsageError, match=f"preprocessor_config.json: {sentence}"):
        read_preprocessing(tmp_path)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        *(
            (values, Preprocessing(AS_TRAINED.colours, None))
            for values in (
                {"do_center_crop": False},
                {"do_resize": False},
                {"resample": 2},
                {"size": {"height": 224, "width": 224}},
                {"crop_size": {"height": 224, "width": 200}},
                {"crop_size": 300},
                {"size": -1},
            )
        ),
        ({"do_normalize": False}, Preprocessing(UNCHANGED, AS_TRAINED.crop)),
    ],
)
def test_images_that_are_shown_in_another_way_have_no_crop(tmp_path, values, expected):
    (tmp_path / PREPROCESSING).write_text(json.dumps(json.loads(AS_TRAINED.to_json(224)) | values))
    assert read_preprocessing(tmp_path) == expected


def test_it_is_written_with_a_run_and_kept_with_published_weights(foreign, initialised_run, tiny, tmp_path):
    run, _ = initialised_run(tmp_path / "runs", tiny)
    assert weights_command(["export", f"from={run}", f"to={tmp_path / 'own'}"]) == 0
    assert read_preprocessing(tmp_path / "own") == Preprocessing(AS_TRAINED.colours, 16 / 18)
    assert AutoImageProcessor.from_pretrained(tmp_path / "own").crop_size["height"] == 16
    assert weights_command(["import", f"from={foreign}", f"to={tmp_path / 'unknown'}"]) == 0
    assert read_preprocessing(tmp_path / "unknown") is None
    published = json.loads(OTHER.to_json(224)) | {"of its own": [1]}
    (foreign / PREPROCESSING).write_text(json.dumps(published))
    assert weights_command(["import", f"from={foreign}", f"to={tmp_path / 'ours'}"]) == 0
    assert weights_command(["export", f"from={tmp_path / 'ours'}", f"to={tmp_path / 'there'}"]) == 0
    for folder in ("ours", "there"):
        assert json.loads((tmp_path / folder / PREPROCESSING).read_text()) == published
    assert not (tmp_path / "there/README.md").exists(), "published weights keep the card of their publisher"
