"""Replays of a finished run."""

import json

import pytest

from ablations.catalogue import STUDIES
from ablations.request import read_request
from aimv2.base.errors import UsageError
from aimv2.runs.record import RunFolder
from sweeps.replay import replay


def trained(runs_dir):
    """Return the one run of the sweep that is trained."""
    request = read_request(runs_dir, "prefix_ratio", STUDIES)
    return RunFolder(runs_dir, request.cells[0].name)


def test_replay_of_an_unchanged_run_is_equal(done):
    before = sorted(done.rglob("*"))
    is_equal, lines = replay(trained(done))
    assert is_equal
    assert lines[-1] == "equal to the last bit"
    assert lines[0].endswith("values of steps and final metrics compared, 0 differ")
    assert int(lines[0].split()[0]) > 2 * 5, "some values at each of two steps"
    assert sorted(done.rglob("*")) == before


def test_replay_names_the_largest_difference_and_missing_metrics(copied):
    run = trained(copied)
    path = run.path / "result.json"
    result = json.loads(path.read_text())
    was = result["metrics"]["probe_digits"]["value"]
    result["metrics"]["probe_digits"]["value"] += 0.5
    result["metrics"]["other"] = {"value": 1.0}
    path.write_text(json.dumps(result))
    manifest = run.file("manifest.json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"threads": 64}))
    is_equal, lines = replay(run)
    assert not is_equal
    assert f"largest difference: probe_digits was {was + 0.5!r} and is {was!r}" in lines
    assert "in only one of the two: other" in lines
    assert "threads was 64 and is 1" in lines
    assert lines[-1] == "not equal"


def test_config_of_another_name_is_refused(copied):
    run = trained(copied)
    path = run.path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 99}))
    with pytest.raises(UsageError, match="this version names it differently"):
        replay(run)
