"""A whole run: train, evaluate, record."""

import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset

from aimv2.config.signature import signature, untrained
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.execute import execute
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.runs.failure import cause_of
from aimv2.runs.record import RunFolder

METRICS = {
    "caption_loss": "nats/token",
    "caption_bits": "bits/byte",
    "causal_caption_loss": "nats/token",
    "name_loss": "nats/token",
    "description_loss": "nats/token",
    **{f"pixel_loss_{f}": "squared error of standardised pixels" for f in (0.25, 0.5, 0.75)},
    **{f"raw_pixel_loss_{f}": "squared error of raw pixels" for f in (0.25, 0.5, 0.75)},
    **{f"{way}_recall_{k}": "accuracy" for way in ("image_to_text", "text_to_image") for k in (1, 5)},
    **{
        f"{kind}_{task}": "accuracy"
        for kind in ("probe", "knn")
        for task in ("emoji_category", "emoji_subcategory", "digits")
    },
}


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    run = RunFolder(tmp_path_factory.mktemp("runs"), signature(tiny))
    assert execute(run.acquire(tiny), tiny) is None
    return run


def test_every_metric_is_there_with_its_unit(finished):
    metrics = finished.result()["metrics"]
    assert {name: metric["unit"] for name, metric in metrics.items() if "fashion" not in name} == METRICS
    assert all(metric["evaluation"] for metric in metrics.values())
    has_none = {name for name, metric in metrics.items() if metric["value"] is None}
    assert has_none == {name for name in METRICS if "recall" in name or name.startswith("raw_")}
    shares = [
        metric["value"] for name, metric in metrics.items() if metric["unit"] == "accuracy" and name not in has_none
    ]
    assert all(0 <= value <= 1 for value in shares)


def test_a_run_leaves_a_model_that_loads(finished, tiny):
    EncoderDecoder(tiny.model).load_state_dict(load_file(finished.file("weights.safetensors")), strict=True)
    assert CaptionTokenizer.load(finished.file("tokenizer.json")).end_id == 1


def test_the_manifest_says_where_and_with_what(finished):
    manifest = json.loads(finished.file("manifest.json").read_text())
    assert manifest["threads"] == 1
    assert manifest["versions"]["torch"]
    assert set(manifest["data"]) == {"openmoji", "fontawesome"}
    assert manifest["parameters"]["encoder"] > 0


def test_doing_a_run_again_gives_the_same_numbers(finished, tiny, tmp_path):
    again = RunFolder(tmp_path, signature(tiny))
    assert execute(again.acquire(tiny), tiny) is None
    assert again.result()["metrics"] == finished.result()["metrics"]
    one, other = load_file(again.file("weights.safetensors")), load_file(finished.file("weights.safetensors"))
    assert all((one[name] == other[name]).all() for name in other)


def test_whoever_the_umask_lets_reads_all_of_a_run(tiny, assert_shared, tmp_path):
    config = untrained(tiny)
    run = RunFolder(tmp_path, signature(config))
    assert execute(run.acquire(config), config) is None
    assert run.file("weights.safetensors").exists()
    assert_shared(tmp_path)


def test_an_untrained_run_is_evaluated_like_any_other(finished, tiny, tmp_path):
    config = untrained(tiny)
    run = RunFolder(tmp_path, signature(config))
    assert execute(run.acquire(config), config) is None
    assert run.result()["metrics"].keys() == finished.result()["metrics"].keys()
    assert run.result()["train_flops"] == 0
    assert run.result()["metrics"]["caption_loss"] != finished.result()["metrics"]["caption_loss"]


def test_a_failure_is_recorded_with_its_cause_and_leaves_no_result(tiny, tmp_path, with_samples):
    config = with_samples(tiny, 80)
    config = replace(config, optimizer=replace(config.optimizer, peak_lr=1e30, warmup_fraction=0.01))
    run = RunFolder(tmp_path, signature(config))
    failure = execute(run.acquire(config), config)
    assert failure.cause == "not finite"
    assert "at step" in failure.message
    assert run.state() == "failed"
    assert run.failure() == failure
    assert not run.is_done
    assert "Traceback" in json.loads((run.path / "attempts/0001/failure.json").read_text())["traceback"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_or_quota_fails_the_run_and_names_it(tiny, tmp_path, monkeypatch, number):
    def full(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("aimv2.runs.tensor_file.save_file", full)
    run = RunFolder(tmp_path, signature(tiny))
    failure = execute(run.acquire(tiny), tiny)
    assert failure.cause == "node"
    assert os.strerror(number) in failure.message
    assert not run.is_done


def test_weights_that_do_not_fit_leave_no_half_of_them(tiny, tmp_path, monkeypatch):
    def half(state, path, metadata):
        path.write_bytes(b"half of it")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("aimv2.runs.tensor_file.save_file", half)
    run = RunFolder(tmp_path, signature(tiny))
    assert execute(run.acquire(tiny), tiny).cause == "node"
    assert not list(run.path.rglob("*weights*"))


def test_a_disk_that_is_full_for_the_failure_too_still_names_it(tiny, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aimv2.runs.tensor_file.save_file", full)
    monkeypatch.setattr("aimv2.runs.record.Attempt.fail", full)  # the same disk
    run = RunFolder(tmp_path, signature(tiny))
    assert execute(run.acquire(tiny), tiny).cause == "node"
    assert run.state() == "new", "it can be claimed again"


def test_a_folder_that_fills_up_before_the_first_step_is_handed_back(tiny, tmp_path, monkeypatch):
    run = RunFolder(tmp_path, signature(tiny))
    attempt = run.acquire(tiny)
    (attempt.folder / "metrics.jsonl").mkdir()  # cannot be opened for writing
    assert execute(attempt, tiny).cause == "node"
    assert run.state() == "new"


class Item(Dataset):
    """A data set whose only item is what a function gives."""

    def __init__(self, give):
        self.give = give

    def __len__(self):
        return 1

    def __getitem__(self, number):
        return self.give()


def too_much():
    return torch.empty(2**50)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def left():
    os._exit(1)


def wrong():
    raise RuntimeError("our own mistake")


def missing():
    return np.memmap("nowhere.tar", mode="r")


def loaded(give):
    """Do it in a loader process, as training reads its batches."""
    return lambda: next(iter(DataLoader(Item(give), batch_size=None, num_workers=1)))


@pytest.mark.parametrize(
    "says",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_memory_that_cuda_has_not_got_for_itself_is_out_of_memory(says):
    assert cause_of(RuntimeError(says)) == "out of memory"


def test_a_failure_that_says_nothing_against_the_run_hands_it_back(tiny, tmp_path):
    """Asked before anything is recorded; the next attempt goes on from what there is."""
    run, asked = RunFolder(tmp_path, signature(tiny)), []

    def fill(rows):
        raise torch.OutOfMemoryError("CUDA out of memory")

    def hands_back(failure):
        asked.append(failure.cause)
        return len(asked) == 1

    with pytest.raises(KeyboardInterrupt):
        execute(run.acquire(tiny), tiny, fill, hands_back=hands_back)
    assert (run.state(), run.num_attempts, run.num_tries) == ("new", 1, 0)
    assert execute(run.acquire(tiny), tiny, fill, hands_back=hands_back).cause == "out of memory"
    assert (run.state(), run.num_attempts, run.num_tries) == ("failed", 2, 1)
    assert asked == ["out of memory", "out of memory"]


@pytest.mark.parametrize(
    ("work", "cause"),
    [
        (too_much, "out of memory"),
        (loaded(too_much), "out of memory"),
        (loaded(killed), "out of memory"),
        (loaded(left), "node"),
        (missing, "data"),
        (loaded(missing), "data"),
        (loaded(wrong), "bug"),
        (wrong, "bug"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_really_goes_wrong_has_its_cause(tmp_path, monkeypatch, work, cause):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        work()
    assert cause_of(caught.value, tmp_path / "v1-x") == cause


def test_what_is_missing_from_the_runs_own_folder_is_the_disks_doing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "v1-x" / "attempts" / "metrics.jsonl").read_text()
    assert cause_of(caught.value, Path("v1-x")) == "node"
    assert cause_of(caught.value, Path("v1-y")) == "data"
