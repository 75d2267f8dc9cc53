from pathlib import Path

import pytest
import yaml
from aimv2.base.errors import UsageError
from aimv2.datasets.description import read_labelled, read_source
from aimv2.datasets.open import open_location, open_source
from aimv2.tools.data.index import index_command
from PIL import Image

from tests.helpers.shards import write_shards


def describe(where, **values):
    path = where / "set.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_source_is_indexed(tmp_path, capsys):
    write_shards(tmp_path)
    path = describe(tmp_path, shards="{00000..00002}.tar", short="txt")
    assert index_command([str(path), "workers=1"]) == 0
    printed = capsys.readouterr().out
    assert "samples: 15" in printed
    assert "members: jpg 15, json 15, txt 15" in printed
    assert f"index: {tmp_path / 'set.index'}" in printed
    opened = open_source(read_source(path))
    assert opened.records.field(4, "txt") == "text 000004"
    assert 0 < len(opened.held_out_M) < 15


def test_every_split_of_a_labelled_set_is_indexed(tmp_path, capsys):
    write_shards(tmp_path, num_shards=3)
    splits = {split: {"shards": f"0000{number}.tar"} for number, split in enumerate(("train", "validation", "test"))}
    path = describe(tmp_path, label="txt", **splits)
    assert index_command([str(path), "workers=1"]) == 0
    assert capsys.readouterr().out.count("samples: 5") == 3
    described = read_labelled(path)
    texts = [open_location(place).field(0, "txt") for place in (described.train, described.validation, described.test)]
    assert texts == ["text 000000", "text 000005", "text 000010"]


def test_a_folder_is_indexed(tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    for number in range(40):
        Image.new("RGB", (4, 4)).save(tmp_path / "pictures" / f"{number}.png")
        (tmp_path / "pictures" / f"{number}.txt").write_text(f"text {number}")
    assert index_command([str(describe(tmp_path, folder="pictures", short="txt")), "workers=1"]) == 0
    assert "samples: 40" in capsys.readouterr().out


def test_a_pattern_is_indexed_and_described(tmp_path, capsys):
    write_shards(tmp_path)
    pattern, index = f"{tmp_path}/{{00000..00002}}.tar", tmp_path / "my.index"
    assert index_command([pattern, f"to={index}", "workers=1"]) == 0
    description = capsys.readouterr().out.partition("completes the index:")[2]
    path = tmp_path / "pasted.yaml"
    path.write_text(description)
    assert yaml.safe_load(description) == {"shards": pattern, "index": str(index), "short": "txt"}
    assert index_command([str(path), "workers=1"]) == 0
    assert "read 0 shards" in capsys.readouterr().out
    assert len(open_source(read_source(path)).records) == 15


def test_relative_patterns_are_those_of_the_working_folder(tmp_path, capsys, monkeypatch):
    write_shards(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert index_command(["*.tar", "to=my.index", "workers=1"]) == 0
    assert (tmp_path / "my.index" / "rows.bin").exists()
    assert yaml.safe_load(capsys.readouterr().out.partition("index:\n\n")[2])["shards"] == f"{tmp_path}/*.tar"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.yaml"], r"none\.yaml cannot be read"),
        (["none.tar"], "shards need to=FOLDER"),
        (["none.tar", "to=x"], r"none\.tar does not exist"),
        (["pipe:cat x.tar", "to=x"], "is a pipe"),
        (["none.yaml", "to=x"], "unknown key 'to'"),
        (["none.tar", "to=x", "workers=0"], "workers=0 must be at least 1"),
        (["none.tar", "to=x", "workers=two"], "workers"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        index_command(arguments)
    assert list(Path().iterdir()) == []


def test_help(capsys):
    assert index_command(["--help"]) == 0
    assert index_command([]) == 2
    assert capsys.readouterr().out.startswith("usage: python -m aimv2 data index FILE.yaml")
