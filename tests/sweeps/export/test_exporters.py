"""The choice of an exporter, and exports against what trackers read."""

import json
import os
import struct
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from aimv2.base.errors import UsageError
from aimv2.runs.events import scalars_of
from sweeps.export.exporters import EXPORTERS, export
from tests.helpers.events import read_events
from tests.helpers.exported import FINAL, NAME, picture, record, rows
from tests.helpers.programs import skip_without

BLOCK, HEADER = 32768, 7  # bytes of LevelDB's log format, after a header of W&B's own
SCRIPT = """
from pathlib import Path
from aimv2.runs.events import scalars_of
from sweeps.export.exporters import export
from tests.helpers.exported import FINAL, NAME, record, rows
from trackio.sqlite_storage import SQLiteStorage

for one in (record(3, state="running"), record(5), record(5), record(2, name="v2-ba9876543210")):
    assert "trackio show" in export([one], "trackio", "a-study", Path("."))
assert sorted(SQLiteStorage.get_runs("a-study")) == sorted([NAME, "v2-ba9876543210"])
*steps, final = SQLiteStorage.get_logs("a-study", NAME)
for row, found in zip(rows(5), steps, strict=True):
    assert found["step"] == row["step"]
    assert scalars_of(row).items() <= found.items(), found
assert {f"final/{name}": value for name, value in FINAL.items()}.items() <= final.items()
assert SQLiteStorage.get_run_config("a-study", NAME)["model.image_px"] == 32
"""


def test_unknown_tracker_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"unknown tracker 'wandbb'. Did you mean 'wandb'\?"):
        export([record(2)], "wandbb", "project", tmp_path)


@pytest.mark.parametrize("to", EXPORTERS)
def test_missing_package_is_one_sentence_with_the_command(tmp_path, monkeypatch, to):
    monkeypatch.setitem(sys.modules, EXPORTERS[to].package, None)
    with pytest.raises(UsageError, match=rf"to={to} needs the package .*; install it: pip install '") as caught:
        export([record(2)], to, "project", tmp_path)
    assert "\n" not in str(caught.value)


def test_extra_has_the_packages():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    extra = {Requirement(text).name.removesuffix("-skinny") for text in project["optional-dependencies"]["exporters"]}
    assert extra == {one.package for one in EXPORTERS.values() if one.install == "aimv2-ablations[exporters]"}


def test_later_export_to_tensorboard_replaces_the_run(tmp_path):
    pictures = picture(tmp_path, 1)
    for one in (record(3, state="running"), record(5, pictures=pictures)):
        said = export([one], "tensorboard", "a study", tmp_path)
    folder = tmp_path / "exports" / "tensorboard" / "a study"
    assert str(folder) in said
    assert [path.name for path in folder.iterdir()] == [f"uniform, seed 3, {NAME}"]
    scalars, images, times = read_events(folder / f"uniform, seed 3, {NAME}")
    for tag in scalars_of(rows(5)[1]):
        values = {row["step"]: scalars_of(row)[tag] for row in rows(5) if tag in scalars_of(row)}
        assert scalars[tag] == [(step, float(np.float32(value))) for step, value in values.items()]
    assert {name: scalars[f"final/{name}"] for name in FINAL} == {name: [(4, value)] for name, value in FINAL.items()}
    assert images == {"predictions": [(1, pictures[1].read_bytes())]}
    assert times[2] == 1_800_000_002.5


def test_run_named_alone_is_a_folder_of_its_name(tmp_path):
    export([record(2, arm="")], "tensorboard", "aimv2", tmp_path)
    assert (tmp_path / "exports" / "tensorboard" / "aimv2" / NAME).is_dir()


# Not in CI: trackio 0.43 refuses the lock's Pillow.
@pytest.mark.skipif(find_spec("trackio") is None, reason="no package trackio")
def test_later_export_to_trackio_replaces_the_run(tmp_path):
    """In a process of its own, because trackio reads TRACKIO_DIR when it is imported."""
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """Return a function that exports records and returns the folders of offline runs."""
    skip_without(find_spec("wandb"), "no package wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")

    def run(*records):
        assert "wandb sync" in export(records, "wandb", "a study", tmp_path)
        return sorted((tmp_path / "exports" / "wandb" / "wandb").glob("offline-run-*"))

    return run


def records_of(folder):
    """Return the records of an offline run."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("*.wandb")
    data, place, found, part = path.read_bytes(), HEADER, [], b""
    while place < len(data):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        part += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(part))
            part = b""
    return found


def history(found):
    """Return the logged values by step."""
    values = {}
    for one in found:
        items = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in one.history.item}
        if items:
            assert one.history.step.num not in values
            values[one.history.step.num] = items
    return values


@pytest.mark.filterwarnings("default")  # of its packages
def test_later_export_replaces_the_run_of_the_same_id(exported, tmp_path):
    exported(record(3, state="new"))
    pictures = picture(tmp_path, 4)
    (folder,) = exported(record(5, pictures=pictures))
    found = records_of(folder)
    (run,) = [one.run for one in found if one.run.run_id]
    assert (run.run_id, run.project, run.display_name, run.run_group) == (NAME, "a study", "uniform, seed 3", "uniform")
    config = {item.key or ".".join(item.nested_key): item.value_json for item in run.config.update}
    assert config["model.image_px"] == "32"
    logged = history(found)
    assert list(logged) == [row["step"] for row in rows(5)]
    for row in rows(5):
        assert scalars_of(row).items() <= logged[row["step"]].items()
    assert logged[4]["predictions._type"] == "image-file"
    (media,) = (folder / "files" / "media" / "images").iterdir()
    assert media.read_bytes() == pictures[4].read_bytes()
    summary = {
        item.key or ".".join(item.nested_key): json.loads(item.value_json)
        for one in found
        for item in one.summary.update
    }
    assert {f"final/{name}": value for name, value in FINAL.items()}.items() <= summary.items()


@pytest.mark.filterwarnings("default")
def test_other_runs_stay(exported):
    assert len(exported(record(2), record(2, name="v2-ba9876543210"))) == 2
    assert len(exported(record(3))) == 2
