import signal
from pathlib import Path

import pytest
import yaml

from aimv2.base.errors import UsageError
from aimv2.datasets.description import read_labelled, read_source
from aimv2.datasets.folder_layout import GROUP
from aimv2.datasets.open import open_location, open_records
from aimv2.tools.data_index import index_command
from tests.helpers.own_data import write
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
    assert "members: jpg, txt, json" in printed
    assert f"index: {tmp_path / 'set.index'}" in printed
    records, selected = open_records(read_source(path))
    assert records.field(4, "txt") == "text 000004"
    assert 0 < len(selected.held_out_M) < 15


def test_every_split_of_a_labelled_set_is_indexed(tmp_path, capsys):
    write_shards(tmp_path, num_shards=3)
    splits = {split: {"shards": f"0000{number}.tar"} for number, split in enumerate(("train", "validation", "test"))}
    path = describe(tmp_path, label="txt", **splits)
    assert index_command([str(path), "workers=1"]) == 0
    assert capsys.readouterr().out.count("samples: 5") == 3
    described = read_labelled(path)
    texts = [open_location(place).field(0, "txt") for place in (described.train, described.validation, described.test)]
    assert texts == ["text 000000", "text 000005", "text 000010"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_index_that_a_signal_interrupts_is_resumed(tmp_path, monkeypatch, capsys, number):
    num = 2 * GROUP
    for name in range(num):
        write(tmp_path / f"pictures/a/{name:03}.jpg", f"image {name}")
    path, real_open = describe(tmp_path, folder="pictures", short="folder"), open

    def interrupted(file, *args, **kwargs):
        if str(file).endswith(f"{num - 1}.jpg"):
            signal.raise_signal(number)
        return real_open(file, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index_command([str(path), "workers=1"])
    assert index_command([str(path), "workers=1"]) == 0
    known = f"not read again, because size and times have not changed: {GROUP} files"
    assert f"read {GROUP} files\n{known}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.yaml"], r"none\.yaml cannot be read"),
        (["none.tar"], "'none.tar' is no description .*write one with the lines shards: none.tar and short: txt"),
        (["a/b.csv"], "'a/b.csv' is no description .*the lines folder: a, table: b.csv and short: COLUMN"),
        (["a/b.arrow"], r"'a/b.arrow' is no description .*; pack the images of a saved dataset"),
        (["."], "'.' is no description .*the lines folder: . and short: txt"),
        (["none.yaml", "workers=0"], "workers.*greater than 0"),
        (["openmoji", "audit=true"], "'openmoji' is no description"),
        (["none.yaml", "none.yaml", "audit=true"], "each source is needed once"),
        (["none.yaml", "audit=true", "num=0"], "num: .*greater than 0"),
        (["none.yaml", "audit=true", "nom=3"], "unknown key 'nom'"),
        (["none.yaml", "workers=two"], "workers"),
        (["none.yaml", "num=3", "data.max_pixels=9"], "num=3 data.max_pixels=9: that is of an audit; type audit=true"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        index_command(arguments)
    assert list(Path().iterdir()) == []
