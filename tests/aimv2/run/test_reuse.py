"""Runs that measure the weights of finished runs which differ in evaluation only."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
from safetensors.torch import load_file

from aimv2.base.interrupt import Interrupts
from aimv2.config.program import replaced
from aimv2.definitions.metrics import METRICS, Metric
from aimv2.definitions.programs import with_plugins
from aimv2.run.execute import execute
from aimv2.run.reuse import WEIGHTS, origin_of_training, reusable
from aimv2.runs import index
from aimv2.runs.attempt import ITEMS
from aimv2.runs.provenance import digest
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import OF_MACHINE

READER = {
    "evaluation.reader.samples": 32,
    "evaluation.reader.pairs": 16,
    "evaluation.reader.width": 16,
    "evaluation.reader.depth": 1,
    "evaluation.reader.batch_size": 8,
}


def done(runs_dir, config, **more):
    run = RunFolder(runs_dir, config.name)
    assert execute(run.acquire(config), config, **more) is None
    return run


def only_metrics(model, goal, data, config, part, world):
    """Stand in for ``evaluate``: nothing but metrics of plug-ins, which need no data here."""
    return {name: Metric(METRICS[name].value_of(None), "share", "here") for name in config.evaluation.metrics}


def unevaluated(*data):
    """Stand in for ``evaluate``, which takes most of a small run's time."""
    return {}


@pytest.fixture(scope="module")
def read(tiny):
    """Return the tiny run with a reader."""
    return replaced(tiny, READER)


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """Return the runs folder of a finished run without a reader, which nothing changes."""
    runs_dir = tmp_path_factory.mktemp("finished")
    done(runs_dir, tiny, evaluate=unevaluated)
    return runs_dir


@pytest.fixture
def runs_dir(finished, tmp_path):
    """Return a copy of it, to change."""
    return shutil.copytree(finished, tmp_path / "runs")


def folder_of(config, runs_dir):
    """Return the folder of the finished run whose training a run can reuse, or None."""
    return next((one.folder for one in reusable({"it": config}, runs_dir).values()), None)


def test_run_that_reuses_a_training_is_bitwise_the_run_that_trains(read, runs_dir, tmp_path):
    ours = done(runs_dir, read, trained=folder_of(read, runs_dir))
    theirs = done(tmp_path / "other", read)
    assert ours.result()["metrics"] == theirs.result()["metrics"]
    assert ours.result()["metrics"]["reader_loss"]["value"] > 0
    tables = [pd.read_parquet(run.file(ITEMS)) for run in (ours, theirs)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    steps, expected = (run.metrics().drop(columns=list(OF_MACHINE), errors="ignore") for run in (ours, theirs))
    pd.testing.assert_frame_equal(steps, expected, check_exact=True)
    weights, others = (load_file(run.file(WEIGHTS)) for run in (ours, theirs))
    assert all((weights[name] == others[name]).all() for name in weights.keys() | others.keys())
    for name in ("examples.json", "tokenizer.json"):
        assert ours.file(name).read_bytes() == theirs.file(name).read_bytes()


def test_a_metric_of_a_plugin_is_measured_on_finished_runs_and_an_edited_one_again(tiny, finished, runs_dir, plugged):
    text = "from aimv2.extend import metric\n@metric('share', lower_is_better=False)\ndef half(model): return 0.5\n"
    plugged(text)
    measured = with_plugins(replaced(tiny, {"evaluation.metrics": ("half",)}))
    assert folder_of(measured, runs_dir).name == tiny.name
    run = done(runs_dir, measured, trained=folder_of(measured, runs_dir), evaluate=only_metrics)
    assert run.result()["metrics"]["half"]["value"] == 0.5
    edited = replace(measured, plugins={"evaluation.metrics.half": "mine.py@000000000000"})
    assert edited.name != run.name
    assert folder_of(edited, runs_dir) is not None
    assert folder_of(tiny, runs_dir) is not None, "any of them can be measured as the others"


def test_record_has_the_cost_of_training_and_the_run_that_trained(tiny, read, runs_dir):
    before = RunFolder(runs_dir, tiny.name)
    run = done(runs_dir, read, trained=before.path, evaluate=unevaluated)
    was, now = before.result(), run.result()
    for name in ("train_flops", "train_seconds", "train_cpu_seconds", "mixture", "read_retries"):
        assert now[name] == was[name]
    assert now["seconds"] > was["train_seconds"]
    (trained, measured) = now["attempts"]
    assert (trained["run"], trained["from_step"], trained["code"]) == (before.name, 0, digest())
    assert (measured["attempt"], measured["from_step"], measured["code"]) == (1, 2, digest())
    manifest = json.loads(run.file("manifest.json").read_text())
    assert manifest["code"] == digest()
    assert (manifest["trained"]["run"], manifest["trained"]["step"]) == (before.name, 2)


def test_weights_of_other_code_are_recorded_with_both_codes(tiny, read, runs_dir):
    before = RunFolder(runs_dir, tiny.name)
    path = before.file("manifest.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"code": "0123456789ab"}))
    (training,) = reusable({"it": read}, runs_dir).values()
    assert (training.code, training.is_ours) == ("0123456789ab", False)
    run = done(runs_dir, read, trained=training.folder, evaluate=unevaluated)
    assert index.read(runs_dir)[run.name].code == f"0123456789ab+{digest()}" == run.entry().code
    third = replaced(read, {"evaluation.reader.samples": 64})
    again = done(runs_dir, third, trained=run.path, evaluate=unevaluated)
    assert origin_of_training(again)["run"] == before.name, "which has trained, and not the one between them"
    assert [one.get("run") for one in again.result()["attempts"]] == [before.name, None]
    assert again.entry().code == run.entry().code


@pytest.mark.parametrize(
    ("change", "is_reusable"),
    [
        ({}, True),
        ({"evaluation.knn_neighbours": 3, "evaluation.num_items": 40}, True),
        ({"log.every_steps": 2}, True),  # not part of a run's name
        ({"evaluation.curve_points": 3}, False),
        ({"evaluation.curve_pairs": 8}, False),
        ({"evaluation.split": "validation"}, False),
        ({"seed": 1}, False),
        ({"budget.samples": 24}, False),
        ({"optimizer.peak_lr": 0.01}, False),
    ],
    ids=str,
)
def test_training_is_reused_only_if_nothing_but_the_evaluation_differs(read, finished, change, is_reusable):
    assert (folder_of(replaced(read, change), finished) is not None) == is_reusable


def test_untrained_encoder_has_no_curve_to_differ_in(tiny, read, tmp_path):
    done(tmp_path, tiny.untrained(), evaluate=unevaluated)
    assert folder_of(replaced(read, {"evaluation.curve_points": 3}).untrained(), tmp_path) is not None


def test_run_without_weights_or_with_a_broken_record_is_not_reused(tiny, read, runs_dir):
    run = RunFolder(runs_dir, tiny.name)
    run.file("manifest.json").write_text("{")
    assert folder_of(read, runs_dir) is None
    run.file(WEIGHTS).unlink()
    assert folder_of(read, runs_dir) is None
    (run.path / "config.json").write_text("[]")
    assert folder_of(read, runs_dir) is None


def test_weights_that_are_gone_since_the_plan_or_trained_otherwise_fail_the_run(tiny, read, runs_dir):
    def refused(config):
        run = RunFolder(runs_dir, config.name)
        failure = execute(run.acquire(config), config, trained=runs_dir / tiny.name)
        assert (failure.cause, run.is_done) == ("data", False)
        return failure.message

    other = replaced(read, {"seed": 1})
    assert refused(other) == f"run {tiny.name} differs from {other.name} in more than its evaluation"
    RunFolder(runs_dir, tiny.name).file(WEIGHTS).unlink()
    assert refused(read).startswith(f"the weights of run {tiny.name} are gone")


@pytest.mark.exhaustive
def test_interrupted_measurement_resumes_with_the_missing_parts(read, runs_dir, tmp_path):
    trained, run = folder_of(read, runs_dir), RunFolder(runs_dir, read.name)
    stopped = Interrupts(poll_seconds=0)
    stopped.also_when(lambda: True)
    with pytest.raises(KeyboardInterrupt):
        execute(run.acquire(read), read, interrupts=stopped, trained=trained)
    assert [path.name for path in run.path.glob("attempts/0001/evaluation/*")] == ["captions.safetensors"]
    assert execute(run.acquire(read), read, trained=trained) is None
    assert run.result()["metrics"] == done(tmp_path / "other", read).result()["metrics"]
    assert [(one.get("run"), one["attempt"]) for one in run.result()["attempts"]] == [
        (trained.name, 1),
        (None, 1),
        (None, 2),
    ]
    assert list(run.metrics()["step"]) == [0, 1, 2]
