"""Replays of a finished run."""

import json
import shutil

import pytest

from aimv2.errors import UsageError
from aimv2.runs.record import RunFolder
from sweeps.replay import replay
from tests.helpers.finished import finished


@pytest.fixture(scope="module")
def done(tmp_path_factory, cache_dir):
    runs_dir = tmp_path_factory.mktemp("replay") / "runs"
    request = finished(runs_dir, cache_dir)
    return RunFolder(runs_dir, request.cells[0].name)


@pytest.fixture
def copied(done, tmp_path):
    shutil.copytree(done.path, tmp_path / done.name)
    return RunFolder(tmp_path, done.name)


def test_replay_of_an_unchanged_run_is_equal(done):
    before = sorted(done.path.rglob("*"))
    is_equal, lines = replay(done)
    assert is_equal
    assert lines[-1] == "equal to the last bit"
    assert lines[0].endswith("step values compared, 0 differ")
    assert int(lines[0].split()[0]) > 2 * 5, "some values at each of two steps"
    assert sorted(done.path.rglob("*")) == before


def test_replay_names_the_largest_difference_and_missing_metrics(copied):
    path = copied.path / "result.json"
    result = json.loads(path.read_text())
    was = result["metrics"]["probe_digits"]["value"]
    result["metrics"]["probe_digits"]["value"] += 0.5
    result["metrics"]["other"] = {"value": 1.0}
    path.write_text(json.dumps(result))
    manifest = copied.file("manifest.json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"threads": 64}))
    is_equal, lines = replay(copied)
    assert not is_equal
    assert f"largest difference: probe_digits was {was + 0.5!r} and is {was!r}" in lines
    assert "in only one of the two: other" in lines
    assert "threads was 64 and is 1" in lines
    assert lines[-1] == "not equal"


def test_config_of_another_name_is_refused(copied):
    path = copied.path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 99}))
    with pytest.raises(UsageError, match="this version names it differently"):
        replay(copied)
