"""A whole run: train, evaluate, record."""

import json
import os
import re
import signal
from collections import Counter
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset

from aimv2.base.interrupt import Interrupts
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.datasets.description import read_source
from aimv2.datasets.open import prepare_location
from aimv2.definitions.metrics import metric_names, unit_of
from aimv2.evaluation.evaluate import evaluate
from aimv2.memory import machine
from aimv2.memory.evaluation import predict_evaluation
from aimv2.model.network import EncoderDecoder
from aimv2.request.resolve import resolve
from aimv2.run.execute import _train_cpu_seconds, execute
from aimv2.runs.attempt import ITEMS
from aimv2.runs.failure import cause_of
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import EVENTS, OF_MACHINE
from tests.helpers.events import read_events
from tests.helpers.files import files_limited_to
from tests.helpers.marks import exhaustive
from tests.helpers.own_data import pictured_source

FAMILIES = ("content_loss_", "image_gain_")


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    run = RunFolder(tmp_path_factory.mktemp("runs"), tiny.name)
    assert execute(run.acquire(tiny), tiny) is None
    return run


def test_result_has_every_metric_with_its_unit(finished, tiny):
    metrics = finished.result()["metrics"]
    missing = set(metric_names(tiny)) - set(metrics)
    # 48 pairs may have none of a class or kind.
    assert {name for name in missing if not name.startswith(FAMILIES)} == set()
    assert {name: metric["unit"] for name, metric in metrics.items()} == {name: unit_of(name) for name in metrics}
    assert all(metric["evaluation"] for metric in metrics.values())
    absent = {name for name, metric in metrics.items() if metric["value"] is None}
    starts = ("raw_", "reader_answers", "reader_pointing")
    assert absent == {name for name in metrics if "recall" in name or "emoji" in name or name.startswith(starts)}
    shares = [
        metric["value"] for name, metric in metrics.items() if metric["unit"] == "accuracy" and name not in absent
    ]
    assert all(0 <= value <= 1 for value in shares)


def test_items_of_the_record_give_every_metrics_value(finished):
    sums = pd.read_parquet(finished.file(ITEMS)).groupby("metric", observed=True)[["total", "weight"]].sum()
    values = {
        name: metric["value"] for name, metric in finished.result()["metrics"].items() if metric["value"] is not None
    }
    assert set(sums.index) == set(values)
    for name, value in values.items():
        assert sums.loc[name, "total"] / sums.loc[name, "weight"] == pytest.approx(value, rel=1e-4, abs=1e-5)


def test_rows_have_what_the_machine_took_and_events_their_losses(finished):
    rows = finished.metrics()
    assert {name for name in OF_MACHINE if name not in rows.columns} == {"gemm_share"}, "which older runs have"
    losses = rows.set_index("step")["text_loss"].dropna().astype("float32")
    assert read_events(finished.file(EVENTS))[0]["train/text_loss"] == list(losses.items())


def test_manifest_has_the_predicted_memory_and_saved_weights_and_tokenizer_load(finished, tiny):
    setup = json.loads(finished.file("manifest.json").read_text())["setup"]
    assert setup["predicted_evaluation_bytes"] == asdict(predict_evaluation(tiny))
    assert sum(setup["predicted_bytes"].values()) > 0
    EncoderDecoder(tiny.model).load_state_dict(load_file(finished.file("weights.safetensors")), strict=True)
    assert CaptionTokenizer.load(finished.file("tokenizer.json")).end_id == 1


def test_compiled_run_fails_before_its_first_step_where_no_compiler_is(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    run = RunFolder(tmp_path, tiny.name)
    failure = execute(run.acquire(tiny), replace(tiny, compile=True))
    assert failure.cause == "node"
    assert failure.message.startswith("compile=true needs a C++ compiler (no-such-compiler), which ")


def test_cpu_seconds_of_training_are_those_of_its_steps(finished, tiny):
    result, steps = finished.result(), finished.metrics()["step_cpu_seconds"].dropna()
    assert len(steps) == tiny.budget.num_steps
    assert result["train_cpu_seconds"] == pytest.approx(steps.sum())
    assert 0 < result["train_cpu_seconds"] < result["cpu_seconds"]


@pytest.mark.parametrize("changes", [{"device": "cuda"}, {"ranks": 2}], ids=str)
def test_cpu_seconds_are_not_the_cost_where_others_do_part_of_the_work(tiny, tmp_path, changes):
    assert _train_cpu_seconds(tmp_path, replace(tiny, **changes)) is None


def test_repeated_run_gives_the_same_numbers(finished, tiny, tmp_path):
    again = RunFolder(tmp_path, tiny.name)
    assert execute(again.acquire(tiny), tiny) is None
    assert again.result()["metrics"] == finished.result()["metrics"]
    one, other = load_file(again.file("weights.safetensors")), load_file(finished.file("weights.safetensors"))
    assert all((one[name] == other[name]).all() for name in other)


def unevaluated(*data):
    """Stand in for ``evaluate``, which takes most of a small run's time."""
    return {}


def test_run_files_have_the_permissions_of_the_umask(tiny, assert_shared, tmp_path):
    config = tiny.untrained()
    run = RunFolder(tmp_path, config.name)
    assert execute(run.acquire(config), config, evaluate=unevaluated) is None
    assert run.file("weights.safetensors").exists()
    assert_shared(tmp_path)


def test_untrained_run_has_the_same_metrics_with_other_values(finished, tiny, tmp_path):
    config = tiny.untrained()
    run = RunFolder(tmp_path, config.name)
    without_probes = partial(evaluate, transfer=lambda *data: [])
    assert execute(run.acquire(config), config, evaluate=without_probes) is None
    metrics, trained = run.result()["metrics"], finished.result()["metrics"]
    assert metrics.keys() == {
        name for name in trained if not name.startswith(("probe_", "causal_probe_", "knn_")) or "emoji" in name
    }
    assert run.result()["train_flops"] == 0
    assert metrics["caption_loss"] != trained["caption_loss"]


def test_failure_is_recorded_with_its_cause_and_leaves_no_result(tiny, tmp_path, with_samples):
    config = with_samples(tiny, 80)
    config = replace(config, optimizer=replace(config.optimizer, peak_lr=1e30, warmup_fraction=0.01))
    run = RunFolder(tmp_path, config.name)
    failure = execute(run.acquire(config), config)
    assert failure.cause == "not finite"
    assert "at step" in failure.message
    assert run.state() == "failed"
    assert run.failure() == failure
    assert not run.is_done
    assert "Traceback" in json.loads((run.path / "attempts/0001/failure.json").read_text())["traceback"]


@pytest.mark.usefixtures("pairs")  # rendered before the disk is full
@pytest.mark.parametrize(
    ("is_trained", "limit", "message"),
    [
        (False, 30_000, "File too large"),  # less than the weights, more than every other file
        (True, 100_000, r"checkpoint/0+\d cannot be written: .*File too large"),
    ],
)
def test_full_disk_fails_the_run_and_leaves_no_partial_weights(tiny, tmp_path, is_trained, limit, message):
    config = tiny if is_trained else tiny.untrained()
    run = RunFolder(tmp_path, config.name)
    with files_limited_to(limit):
        failure = execute(run.acquire(config), config, evaluate=unevaluated)
    assert (failure.cause, run.state()) == ("node", "failed")
    assert re.search(message, failure.message)
    assert not list(run.path.rglob("*weights*"))


@pytest.mark.parametrize("name", ["failure.json", "metrics.jsonl"])
def test_failure_that_cannot_be_recorded_is_returned_and_the_run_released(tiny, tmp_path, name):
    def broken(*data):
        raise ValueError("no metrics")

    run = RunFolder(tmp_path, tiny.name)
    attempt = run.acquire(tiny)
    (attempt.folder / name).mkdir()  # cannot be replaced by a file, or be opened for writing before the first step
    assert execute(attempt, tiny, evaluate=broken).cause == "node"
    (attempt.folder / name).rmdir()
    assert run.state() == "new"


class Item(Dataset):
    """A data set whose only item is the result of a function."""

    def __init__(self, work):
        self.work = work

    def __len__(self):
        return 1

    def __getitem__(self, number):
        return self.work()


def too_much():
    return torch.empty(2**50)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def exited():
    os._exit(1)


def wrong():
    raise RuntimeError("our own mistake")


def missing():
    return np.memmap("nowhere.tar", mode="r")


def loaded(work):
    """Do the work in a loader process, where training reads its batches."""
    return lambda: next(iter(DataLoader(Item(work), batch_size=None, num_workers=1)))


@pytest.mark.parametrize(
    ("work", "cause"),
    [
        (too_much, "out of memory"),
        (loaded(too_much), "out of memory"),
        (loaded(killed), "node"),
        (loaded(exited), "node"),
        (missing, "data"),
        exhaustive(loaded(missing), "data"),  # torch waits five seconds for such a process
        exhaustive(loaded(wrong), "bug"),
        (wrong, "bug"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_real_errors_have_their_cause(tmp_path, monkeypatch, work, cause):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((RuntimeError, OSError)) as caught:
        work()
    assert cause_of(caught.value, tmp_path / "v2-x", oom_kills=machine.oom_kills()) == cause


@pytest.fixture
def own(tiny, tmp_path):
    """Return a resolved run on pictures of which three are bad, and its description."""
    path = pictured_source(tmp_path / "pictures", bad={1: "image", 10: "caption", 17: "empty"})
    data = replace(tiny.data, sources=(str(path),), dense_fraction=0.0)
    budget = replace(tiny.budget, samples=64)  # two epochs of 32 pairs
    return resolve(replace(tiny, data=data, budget=budget)), path


def test_run_on_own_data_records_its_mixture_and_bad_samples(own, tmp_path):
    config, _ = own
    run = RunFolder(tmp_path / "runs", config.name)
    assert execute(run.acquire(config), config) is None
    result = run.result()
    (source, shown), *others = result["mixture"].items()
    assert (source, others) == ("pictures", [])
    assert (shown["samples"], shown["short"], shown["dense"], shown["epochs"]) == (64, 64, 0, 2.0)
    listed = [json.loads(line) for line in run.file("bad_samples.jsonl").read_text().splitlines()]
    assert {(bad["key"], bad["reason"]) for bad in listed} == {
        ("01.png", "undecodable image"),
        ("10.png", "missing caption"),
        ("17.png", "empty caption"),
    }
    assert Counter(bad["reason"] for bad in listed) == shown["bad"]
    assert result["metrics"]["content_loss"]["value"] > 0
    assert result["metrics"]["probe_object"]["evaluation"] == "not applicable to data without scenes"


def test_run_with_too_many_bad_samples_fails_with_their_counts(own, tmp_path):
    config, _ = own
    config = replace(config, data=replace(config.data, max_bad_rate=0.001))
    run = RunFolder(tmp_path / "runs", config.name)
    failure = execute(run.acquire(config), config)
    assert failure.cause == "data"
    assert "bad samples beside" in failure.message
    assert "pictures: " in failure.message


def test_run_on_other_data_than_its_own_is_refused_and_shows_the_difference(own, tmp_path):
    config, path = own
    run = RunFolder(tmp_path / "runs", config.name)
    stopped = Interrupts()
    stopped.also_when(lambda: True)
    with pytest.raises(KeyboardInterrupt):
        execute(run.acquire(config), config, interrupts=stopped)
    (path.parent / "pictures" / "05.png").unlink()
    prepare_location(read_source(path))
    failure = execute(run.acquire(config), config)
    assert failure.cause == "data"
    assert failure.message.startswith("the data is not that of this run: pictures/")
    assert resolve(config).name != run.name, "a new launch has another name"
