"""Exports to Weights & Biases, offline, against the records in its files."""

import json
import struct
from importlib.util import find_spec

import pytest

from aimv2.runs.events import scalars_of
from sweeps.export.exporters import export
from tests.helpers.exported import FINAL, NAME, picture, record, rows
from tests.helpers.programs import skip_without

BLOCK, HEADER = 32768, 7  # bytes of LevelDB's log format, after a header of W&B's own


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
