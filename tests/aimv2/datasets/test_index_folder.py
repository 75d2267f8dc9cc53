import errno
import shlex
from pathlib import Path

import pytest

from aimv2.base.errors import UsageError
from aimv2.datasets.index_folder import (
    command,
    read_facts,
    read_parts,
    unfinished,
    write_facts,
    write_parts,
    writing,
)
from aimv2.datasets.records import DataPart
from tests.helpers.own_data import source, write

PARTS = [DataPart("a", 3, 100, "x"), DataPart("ö/b", 0, 2**40, "y")]


def written(location, text="new"):
    with writing(location) as folder:
        write_facts(folder, location, 3, PARTS, extra=text)
        (folder / "file").write_text(text)
    return location


def test_parts_are_read_as_they_were_written(tmp_path):
    write_parts(tmp_path / "parts.parquet", PARTS)
    assert read_parts(tmp_path / "parts.parquet") == PARTS


@pytest.mark.parametrize("content", [None, b"PAR1 and no more"])
def test_parts_that_cannot_be_read_are_one_sentence(tmp_path, content):
    if content:
        write(tmp_path / "parts.parquet", content)
    with pytest.raises(UsageError, match=r"parts\.parquet cannot be read"):
        read_parts(tmp_path / "parts.parquet")


def test_a_new_index_replaces_the_old_one_and_leaves_nothing_else(tmp_path):
    location = source(tmp_path, folder="a")
    written(location, "old")
    written(unfinished(location), "half")
    assert read_facts(unfinished(location))["extra"] == "half"
    assert read_facts(location)["extra"] == "old", "it stays until the new one is complete"
    written(location)
    assert read_facts(location)["extra"] == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.index", "source.yaml"]


def test_after_an_error_the_old_index_is_still_there(tmp_path):
    location = written(source(tmp_path, folder="a"), "old")

    def interrupted():
        with writing(location) as folder:
            (folder / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "source.index/file").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.index", "source.yaml"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), KeyboardInterrupt()])
@pytest.mark.parametrize("failing", [0, 1])  # the old index is moved aside, and then the new one to its place
def test_if_the_new_index_cannot_be_moved_to_its_place_the_old_one_stays(tmp_path, monkeypatch, failing, error):
    location = written(source(tmp_path, folder="a"), "old")
    done = []

    def rename(self, target, real=Path.rename):
        done.append(target)
        if len(done) == failing + 1:
            raise error
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(type(error) if isinstance(error, KeyboardInterrupt) else UsageError) as raised:
        written(location)
    if isinstance(error, OSError):
        assert str(raised.value) == f"the index {tmp_path}/source.index cannot be replaced (I/O error)"
    assert (tmp_path / "source.index/file").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.index", "source.yaml"]


def test_a_folder_that_is_no_index_is_not_replaced(tmp_path):
    write(tmp_path / "photos/a.jpg", b"precious")
    with pytest.raises(UsageError, match="photos exists and is no index"):
        written(source(tmp_path, folder="a", index="photos"))
    assert (tmp_path / "photos/a.jpg").read_bytes() == b"precious"


def test_an_index_that_cannot_be_written_is_one_sentence(tmp_path):
    write(tmp_path / "file", "")
    with pytest.raises(UsageError, match=r"file/index cannot be written \(Not a directory\); set index"):
        written(source(tmp_path, folder="a", index="file/index"))


def test_a_missing_index_names_the_command_with_the_description(tmp_path):
    location = source(tmp_path, folder="a")
    with pytest.raises(UsageError) as error:
        read_facts(location)
    assert str(error.value) == (
        f"there is no index at {tmp_path}/source.index; write it with python -m aimv2 data index {tmp_path}/source.yaml"
    )
    assert command(source(tmp_path, folder="a", index="elsewhere")) == "python -m aimv2 data index FILE.yaml"


def test_the_command_is_quoted_for_the_shell(tmp_path):
    folder = tmp_path / "my data; $HOME's"
    *start, path = shlex.split(command(source(folder, folder="a")))
    assert start == ["python", "-m", "aimv2", "data", "index"]
    assert path == f"{folder}/source.yaml"


@pytest.mark.parametrize("change", [{"folder": "b"}, {"image": "png"}, {"table": "t.csv"}])
def test_an_index_of_another_location_is_refused(tmp_path, change):
    written(source(tmp_path, folder="a"))
    with pytest.raises(UsageError, match=f"was made for another {next(iter(change))} than the description has now"):
        read_facts(source(tmp_path, **({"folder": "a"} | change)))


def test_data_may_move_together_with_its_index_and_the_index_alone(tmp_path):
    write(tmp_path / "old/pictures/a.jpg", b"")
    written(source(tmp_path / "old", folder="pictures"))
    facts = read_facts(source(tmp_path / "old", folder="pictures"))
    (tmp_path / "old").rename(tmp_path / "new")
    assert read_facts(source(tmp_path / "new", folder="pictures")) == facts

    written(source(tmp_path / "new", folder="pictures"))
    (tmp_path / "new/source.index").rename(tmp_path / "alone")
    read_facts(source(tmp_path / "new", folder="pictures", index=str(tmp_path / "alone")))


@pytest.mark.parametrize("content", ["{", '{"version": 0}'])
def test_a_broken_index_or_one_of_another_version_is_refused(tmp_path, content):
    location = source(tmp_path, folder="a")
    write(tmp_path / "source.index/index.json", content)
    with pytest.raises(UsageError, match=r"write it (again )?with python -m aimv2 data index"):
        read_facts(location)
