"""Untrusted files: what is read, and what is refused."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from aimv2.base.errors import UsageError
from aimv2.tools.weights.files import find, read_tensors, write_folder

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


def assert_equal(read, tensors):
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_a_file_gives_its_tensors(tensors, tmp_path):
    save_file(tensors, tmp_path / "aimv2.safetensors")
    assert_equal(read_tensors(tmp_path / "aimv2.safetensors"), tensors)


def test_a_pickle_is_not_opened(refusal, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    torch.save({"a": Trap()}, tmp_path / "aimv2.pth")
    assert "convert one of torch.save" in refusal(read_tensors, tmp_path / "aimv2.pth")
    assert not (tmp_path / "trapped").exists()


def test_shards_are_read_as_one(shards, tensors):
    assert_equal(read_tensors(write_index(*shards)), tensors)


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
    "shard", ["../outside.safetensors", "{parent}/outside.safetensors", "3.safetensors", "x" * 9999]
)
def test_index_must_not_lead_out_of_its_folder(shard, shards, refusal, tmp_path):
    folder, file_of = shards
    file_of["a"] = shard.format(parent=tmp_path)
    assert "not a file beside it" in refusal(read_tensors, write_index(folder, file_of))


def test_index_and_its_files_must_agree(shards, tensors, refusal):
    folder, file_of = shards
    assert "index lists: 'f'" in refusal(read_tensors, write_index(folder, file_of | {"f": "2.safetensors"}))
    without = {name: shard for name, shard in file_of.items() if name != "e"}
    assert "index lists: 'e'" in refusal(read_tensors, write_index(folder, without))
    save_file({name: tensors[name] for name in "ade"}, folder / "2.safetensors")
    assert "index lists: 'a'" in refusal(read_tensors, write_index(folder, file_of))


@pytest.mark.parametrize("content", ['{"weight_map": []}', '{"weight_map": {"a": 1}}', "{}"])
def test_index_without_a_weight_map_is_refused(content, refusal, tmp_path):
    (tmp_path / INDEX).write_text(content)
    assert "must have a weight_map" in refusal(read_tensors, tmp_path / INDEX)


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


def test_text_of_a_file_is_escaped_in_messages(refusal, tmp_path):
    header = json.dumps({"a": {"dtype": "\x1b[31m\n", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "aimv2.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert "cannot be read as safetensors" in refusal(read_tensors, path)
    save_file({"\x1b[31m\n": torch.zeros(1, dtype=torch.int8)}, path)
    assert "is torch.int8" in refusal(read_tensors, path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(2, dtype=torch.int64), "'a' is torch.int64"),
        (torch.zeros(2, dtype=torch.float64), "'a' is torch.float64"),
        (torch.zeros(2, dtype=torch.bool), "'a' is torch.bool"),
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
