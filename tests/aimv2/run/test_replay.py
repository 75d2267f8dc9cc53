"""Finished runs that are executed again, as recorded and with a changed record."""

import json
import shutil

import pytest

from aimv2.base.errors import UsageError
from aimv2.run.execute import execute
from aimv2.run.replay import replay
from aimv2.runs.failure import Failure
from aimv2.runs.record import RunFolder


@pytest.fixture(scope="module")
def done(tiny, pairs, tmp_path_factory):
    run = RunFolder(tmp_path_factory.mktemp("runs"), tiny.name)
    assert execute(run.acquire(tiny), tiny) is None
    return run


@pytest.fixture
def copied(done, tmp_path):
    """Return a copy of the run, to change."""
    shutil.copytree(done.path, tmp_path / done.name)
    return RunFolder(tmp_path, done.name)


def changed(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_unchanged_run_is_equal_and_nothing_is_left_behind(done):
    before, lines = sorted(done.path.rglob("*")), []
    assert replay(done, lines.append)
    assert lines[0] == f"executing {done.name} again in a temporary folder"
    num_values = int(lines[1].removesuffix(" values of steps and final metrics compared, 0 differ"))
    assert num_values > 2 * 5, "some values at each of two steps"
    assert lines[2:] == ["equal to the last bit"]
    assert sorted(done.path.rglob("*")) == before


def test_the_largest_difference_missing_metrics_and_another_setup_are_named(copied):
    metrics, lines = copied.result()["metrics"], []
    was = metrics["probe_digits"]["value"]
    metrics["probe_digits"]["value"] += 0.5
    changed(copied.path / "result.json", metrics=metrics | {"other": {"value": 1.0}})
    changed(copied.file("manifest.json"), threads=64)
    assert not replay(copied, lines.append)
    assert lines[2:] == [
        f"largest difference: probe_digits was {was + 0.5!r} and is {was!r}",
        "in only one of the two: other",
        "threads was 64 and is 1",
        "not equal",
    ]


def test_nothing_is_sent_to_the_trackers_of_the_run(copied):
    path = copied.path / "config.json"
    changed(path, log=json.loads(path.read_text())["log"] | {"wandb": True})
    assert replay(copied)
    assert not list(copied.path.rglob("wandb"))


def test_a_config_of_another_name_is_refused(copied):
    changed(copied.path / "config.json", seed=99)
    with pytest.raises(UsageError, match="this version names it differently"):
        replay(copied)


def test_an_unfinished_run_is_refused(tiny, tmp_path):
    run = RunFolder(tmp_path, tiny.name)
    with run.acquire(tiny) as attempt:
        attempt.fail(Failure("bug", "a test"), "")
    with pytest.raises(UsageError, match="is not done yet; only a finished run can be replayed"):
        replay(run)
