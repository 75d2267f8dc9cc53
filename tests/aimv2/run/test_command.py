"""The command ``python -m aimv2 train``."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aimv2.cli import main
from aimv2.run.times import TIMES
from tests.helpers.own_data import own_source
from tests.helpers.training import small_run

ROOT = Path(__file__).parents[3]
FAILING = ("budget.samples=80", "optimizer.peak_lr=1e30", "optimizer.warmup_fraction=0.01")


@pytest.fixture
def train(tmp_path, cache_dir, monkeypatch, capsys):
    """Call ``python -m aimv2 train`` for a small run in an empty folder; return exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def train(*arguments, cache=cache_dir):
        return main(["train", *small_run(cache, *arguments)]), *capsys.readouterr()

    return train


@pytest.fixture
def new_cache(cache_dir, tmp_path):
    """Return a data cache with the rendered pictures, but without times of earlier runs."""
    folder = tmp_path / "cache"
    folder.mkdir()
    for path in Path(cache_dir).iterdir():
        if path.name != TIMES:
            (folder / path.name).symlink_to(path)
    return str(folder)


def rows(table):
    """Return the lines of a printed table by their first cell."""
    return {line.split("│")[1].strip(): line for line in table.splitlines() if line.count("│") > 3}


def test_train_prints_both_encoders_and_trains_once(train, tmp_path):
    status, printed, _ = train()
    assert status == 0
    assert "untrained" in printed
    assert "caption_loss" in rows(printed)
    assert rows(printed)["pixel_loss_0.5"].split("│")[-2].strip() == "squared error"
    assert len(list((tmp_path / "runs").glob("v2-*"))) == 2
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    status, again, _ = train()
    assert status == 0
    assert "is already done" in again
    assert rows(again) == rows(printed)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path in before} == before
    assert len(list((tmp_path / "runs").rglob("attempts/*"))) == 2


def test_price_and_setup_are_printed_before_a_run_starts_and_its_time_once_such_a_run_has_finished(
    train, new_cache, tmp_path
):
    status, printed, _ = train(cache=new_cache)
    assert status == 0
    price, setup = printed.splitlines()[:2]
    flops = float(re.search("^price: at most (.*) training FLOPs; ", price)[1])
    done = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/result.json")]
    assert 0 < max(result["train_flops"] for result in done) <= flops
    assert price.endswith("the time is not known, because nothing like it has run here")
    assert re.fullmatch(r"setup: 16 samples in batches of 8; predicted memory 0\.6 of [\d.]+ GB", setup)
    assert "price" not in train(cache=new_cache)[1], "both runs are done"
    status, printed, errors = train("seed=1", "limit=1GB,1FLOPs", cache=new_cache)
    assert status == 2
    assert re.search(r"; \d+ s of training and evaluation, at the speed measured here$", printed.splitlines()[0])
    assert "times limit=1FLOPs; nothing was started" in errors
    assert len(list((tmp_path / "runs").glob("v2-*"))) == 2


@pytest.mark.exhaustive
def test_a_limit_on_the_time_measures_it(train, new_cache, tmp_path):
    status, printed, errors = train("limit=0.001s", cache=new_cache)
    assert status == 2
    assert "of training and evaluation, at the speed measured here" in printed
    assert "s of training and evaluation, " in errors
    assert not list((tmp_path / "runs").glob("v2-*"))


def test_a_run_that_takes_days_on_a_cpu_needs_a_limit(train, tmp_path):
    status, printed, errors = train("scale=vit_l", "device=cpu", "budget.samples=12288000000", "micro_batch=1")
    assert (status, "training FLOPs" in printed) == (2, True)
    assert "days at 1 TFLOP/s; nothing was started." in errors
    assert not list((tmp_path / "runs").glob("v2-*"))


def test_price_of_a_resumed_run_is_that_of_the_samples_that_are_left(train, tmp_path):
    assert "\nsetup: 80 samples in batches of 8;" in train(*FAILING)[1]
    attempt = next((tmp_path / "runs").rglob("manifest.json")).parent
    (attempt / "checkpoint" / "000000003").mkdir(parents=True)
    assert "\nsetup: 56 samples in batches of 8;" in train(*FAILING, "limit=1FLOPs")[1]


def test_failed_run_names_cause_and_traceback_file(train, tmp_path):
    status, printed, errors = train(*FAILING)
    assert status == 1
    assert "not finite" in errors
    assert "Traceback" not in errors + printed
    assert not list((tmp_path / "runs").rglob("result.json"))
    path = next((tmp_path / "runs").rglob("failure.json"))
    assert json.loads(path.read_text())["cause"] == "not finite"
    assert str(path.relative_to(tmp_path)) in printed.replace("\n", "")


def test_train_waits_until_it_knows_whether_a_process_of_another_host_is_alive(train, tmp_path, monkeypatch):
    train(*FAILING)
    attempt = next((tmp_path / "runs").glob("*/attempts/0001/failure.json")).parent
    (attempt / "released").unlink()
    (attempt / "holder.json").write_text(json.dumps({"host": "elsewhere"}))
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            (attempt / "released").touch()

    monkeypatch.setattr(time, "sleep", sleep)
    printed = train(*FAILING)[1]
    assert "watching for 90 s whether another process works on run" in printed.replace("\n", " ")
    assert len(waited) == 3
    assert (attempt.with_name("0002") / "failure.json").exists()


@pytest.mark.exhaustive
def test_run_that_other_code_has_begun_is_announced_to_start_again(train, tmp_path):
    assert "step 0" not in train(*FAILING)[1]
    manifest = next((tmp_path / "runs").rglob("manifest.json"))
    manifest.write_text(json.dumps({"code": "0123456789ab"}))
    (manifest.parent / "checkpoint" / "000000001").mkdir(parents=True)
    assert "starts again at step 0: its checkpoint is of other code (0123456789ab)" in train(*FAILING)[1]


@pytest.mark.exhaustive
def test_run_without_samples_has_one_column_and_lists_metrics_that_do_not_apply(train, tmp_path):
    status, printed, _ = train("budget.samples=0", "objective.name=siglip")
    assert status == 0
    assert len(list((tmp_path / "runs").glob("v2-*"))) == 1
    (head,) = [line for line in printed.splitlines() if "metric" in line and "┃" in line]
    assert [cell.strip() for cell in head.split("┃")[1:-1]] == ["metric", "untrained", "unit"]
    assert "image_to_text_recall_1" in rows(printed)
    assert not {name for name in rows(printed) if "caption" in name or "pixel" in name}
    (absent,) = [line for line in printed.splitlines() if line.startswith("not applicable to this run: ")]
    assert absent.split(": ")[1].split(", ")[:2] == ["caption_loss", "caption_bits"]


@pytest.mark.exhaustive
def test_warning_of_a_metric_is_printed(train):
    grid = "evaluation.probe.learning_rates=[1e-9,1e-2]"
    status, printed, _ = train("budget.samples=0", grid, "evaluation.probe.epochs=8")
    assert status == 0
    warnings = [line for line in printed.splitlines() if line.startswith("warning: ")]
    assert "warning: probe_digits: the best learning rate, 0.01, is at the edge of the grid" in warnings


@pytest.mark.exhaustive
def test_ctrl_c_on_several_ranks_saves_a_checkpoint_from_which_they_resume(tmp_path, cache_dir):
    arguments = small_run(cache_dir, "ranks=2", "device=cpu", "budget.samples=4000", "checkpoint.every_seconds=0.1")
    command = [sys.executable, "-m", "aimv2", "train", *arguments, f"runs_dir={tmp_path}"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        while not list(tmp_path.glob("v2-*/attempts/0001/checkpoint/0*")):
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        printed = process.stdout.read()
    assert process.returncode == 130
    assert "Interrupted. Run the same command to resume" in printed
    assert "Traceback" not in printed
    resumed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    (manifest,) = tmp_path.glob("v2-*/attempts/0002/manifest.json")
    assert json.loads(manifest.read_text())["resumed"]["step"] > 0


def test_own_data_are_trained_with_shares_of_captions_that_are_told(train, tmp_path):
    status, printed, _ = train(f"data.sources=[{own_source(tmp_path)}]", "limit=1FLOPs")
    assert status == 2
    assert "captions: 90 % dense, 10 % short (data.dense_fraction=0.9)" in printed
