"""Probes: which are needed, what they are, and the time of runs that follows from them."""

import shutil
from dataclasses import replace

import pytest

from aimv2.base.files import read_json, write_json
from aimv2.config.paths import replaced
from aimv2.run.execute import execute
from aimv2.run.pricing.effort import CURVE_SHARE, evaluation_effort
from aimv2.run.pricing.probe import STEPS, ProbeClock, probe_of, shape_of
from aimv2.run.pricing.recorded import seconds_of
from aimv2.runs.record import RunFolder


@pytest.fixture
def whole(tiny):
    """A run that is longer than a probe."""
    return replaced(tiny, {"budget.samples": 800, "evaluation.num_items": 4000})


@pytest.fixture
def probed(tiny, tmp_path):
    """A folder with the finished probe of the tiny run."""
    folder = tmp_path / "probed"
    config = probe_of(tiny)
    assert execute(RunFolder(folder, config.name).acquire(config), config) is None
    return folder


def test_a_probe_is_a_few_steps_of_the_same_shape(whole):
    probe = probe_of(replace(whole, seed=3))
    assert probe.budget.samples == STEPS * whole.budget.batch_size
    assert (probe.model, probe.budget.batch_size) == (whole.model, whole.budget.batch_size)
    assert shape_of(probe) == shape_of(whole)
    assert evaluation_effort(probe) <= evaluation_effort(whole)
    assert probe_of(probe) == probe, "the same run, whatever it is the probe of"


def test_one_probe_is_needed_for_each_shape(whole, tmp_path):
    other = replaced(whole, {"model.encoder.depth": 3})
    alike = [replace(whole, seed=1), replaced(whole, {"optimizer.peak_lr": 0.5, "budget.samples": 1600})]
    probes = ProbeClock(tmp_path / "none").missing([whole.untrained(), whole, *alike, other, other.untrained()])
    assert probes == [probe_of(whole), probe_of(other)]
    assert ProbeClock(tmp_path).missing([whole.untrained()]) == [probe_of(whole.untrained())]
    ranks = replace(whole, ranks=2)
    assert len(ProbeClock(tmp_path).missing([whole, ranks])) == 2
    assert len(ProbeClock(tmp_path).missing([whole, replace(whole, threads=2)])) == 2


def test_times_are_those_of_the_probe_scaled(whole, probed, tiny):
    clock = ProbeClock(probed)
    assert clock.missing([whole, whole.untrained()]) == []
    found, measured = clock(whole), seconds_of(probed / probe_of(tiny).name)
    assert found.training == pytest.approx(800 * measured["training"])
    ratio = evaluation_effort(whole) / evaluation_effort(probe_of(tiny))
    options = whole.evaluation
    curve = CURVE_SHARE * options.curve_points * options.curve_pairs * measured["training"]
    assert found.evaluation == pytest.approx(ratio * measured["evaluation"] + curve)
    before = clock(whole.untrained())
    assert before.training == 0
    assert before.evaluation > measured["evaluation"]
    assert found.hardware == before.hardware == clock.hardware[0]
    assert clock(replaced(whole, {"model.encoder.depth": 3})) is None


def test_hardware_is_that_of_the_machine_where_the_probe_ran(whole, probed, tmp_path):
    folder = shutil.copytree(probed, tmp_path / "probes")
    (manifest,) = folder.glob("v*/attempts/0001/manifest.json")
    write_json(manifest, read_json(manifest) | {"hardware": "NVIDIA H100 80GB HBM3"})
    clock = ProbeClock(folder)
    assert clock.hardware == ["NVIDIA H100 80GB HBM3"]
    assert clock(whole).hardware == "NVIDIA H100 80GB HBM3"
    manifest.unlink()
    assert ProbeClock(folder)(whole) is None, "a record that is incomplete measures nothing"
