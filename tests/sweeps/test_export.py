"""Records of a finished sweep and of a run that resumed, and what W&B reads of them."""

import json
import os
import shutil
import struct
import sys
from importlib.util import find_spec

import pytest

from ablations.catalogue import STUDIES
from ablations.request import read_request
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json
from aimv2.runs.events import scalars_of
from aimv2.runs.rows import read_rows
from sweeps.export import export, records
from tests.helpers.exported import FINAL, NAME, picture, record, rows
from tests.helpers.programs import skip_without

BLOCK, HEADER = 32768, 7  # bytes of LevelDB's log format, after a header of W&B's own


def test_records_of_a_sweep_have_its_runs(done):
    cells = read_request(done, "prefix_ratio", STUDIES).cells
    found = records(done, "prefix_ratio")
    assert [(one.name, one.arm, one.seed) for one in found] == [(cell.name, cell.arm, cell.seed) for cell in cells]
    trained = found[0]
    folder = done / trained.name / "attempts" / "0001"
    assert trained.state == "done"
    assert trained.title == f"{trained.arm}, seed {trained.seed}"
    assert trained.rows == read_rows(folder)
    assert trained.config["budget.samples"] == 64
    result = read_json(done / trained.name / "result.json")["metrics"]
    assert trained.metrics == {name: one["value"] for name, one in result.items() if one["value"] is not None}
    assert set(trained.pictures) == {0, trained.rows[-1]["step"]}
    assert trained.started <= os.stat(folder / "result.json").st_mtime
    assert found[1].rows == [], "an untrained encoder has no steps"


def test_times_of_a_resumed_run_count_from_its_beginning(copied):
    """Its attempt began at second 50, with rows of the 20 seconds before."""
    name = records(copied, "prefix_ratio")[0].name
    folder = copied / name / "attempts" / "0001"
    recorded = read_rows(folder)
    recorded[1]["seconds"] = 20.0
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in recorded))
    manifest = read_json(folder / "manifest.json")
    (folder / "manifest.json").write_text(json.dumps(manifest | {"resumed": {"attempt": 0, "step": 1}}))
    os.utime(folder / "holder.json", (50, 50))
    (found,) = records(copied, name)
    assert found.started == 30.0
    assert found.time_of(recorded[1]) == 50.0


def test_runs_that_were_not_started_are_left_out(copied):
    first, second = records(copied, "prefix_ratio")
    shutil.rmtree(copied / first.name)
    assert [one.name for one in records(copied, "prefix_ratio")] == [second.name]
    shutil.rmtree(copied / second.name)
    with pytest.raises(UsageError, match="no run of prefix_ratio was started yet"):
        records(copied, "prefix_ratio")


@pytest.mark.parametrize(
    ("name", "message"), [("v2-", "2 runs in .* begin with 'v2-'"), ("nothing", "sweep 'nothing' was not launched")]
)
def test_name_that_means_no_run_is_refused(done, name, message):
    with pytest.raises(UsageError, match=message):
        records(done, name)


def test_a_missing_package_is_one_sentence_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"^export needs the package wandb .*; install it: pip install '[^\n]*$"):
        export([record(2)], "project", tmp_path)


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """Return a function that exports records and returns the folders of offline runs."""
    skip_without(find_spec("wandb"), "no package wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")

    def run(*records):
        assert "wandb sync" in export(records, "a study", tmp_path)
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


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("default")
def test_other_runs_stay(exported):
    assert len(exported(record(2), record(2, name="v2-ba9876543210"))) == 2
    assert len(exported(record(3))) == 2
