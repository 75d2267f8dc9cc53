"""The command ``python -m aimv2 train``."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aimv2.cli import main
from tests.helpers.training import small_run

ROOT = Path(__file__).parents[3]


@pytest.fixture
def train(tmp_path, cache_dir, monkeypatch, capsys):
    """Call ``python -m aimv2 train`` for a small run in an empty folder; return exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def train(*arguments):
        return main(["train", *small_run(cache_dir, *arguments)]), *capsys.readouterr()

    return train


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


def test_failed_run_names_cause_and_traceback_file(train, tmp_path):
    status, printed, errors = train("budget.samples=80", "optimizer.peak_lr=1e30", "optimizer.warmup_fraction=0.01")
    assert status == 1
    assert "not finite" in errors
    assert "Traceback" not in errors + printed
    assert not list((tmp_path / "runs").rglob("result.json"))
    path = next((tmp_path / "runs").rglob("failure.json"))
    assert json.loads(path.read_text())["cause"] == "not finite"
    assert str(path.relative_to(tmp_path)) in printed.replace("\n", "")


def test_train_waits_until_it_knows_whether_a_process_of_another_host_is_alive(train, tmp_path, monkeypatch):
    """After a reboot, a host is another one."""
    failing = ("budget.samples=80", "optimizer.peak_lr=1e30", "optimizer.warmup_fraction=0.01")
    train(*failing)
    attempt = next((tmp_path / "runs").glob("*/attempts/0001/failure.json")).parent
    (attempt / "released").unlink()
    (attempt / "holder.json").write_text(json.dumps({"host": "elsewhere"}))
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            (attempt / "released").touch()

    monkeypatch.setattr(time, "sleep", sleep)
    printed = train(*failing)[1]
    assert "watching for 90 s whether another process works on run" in printed.replace("\n", " ")
    assert len(waited) == 3
    assert (attempt.with_name("0002") / "failure.json").exists()


@pytest.mark.exhaustive
def test_run_that_other_code_has_begun_is_announced_to_start_again(train, tmp_path):
    failing = ("budget.samples=80", "optimizer.peak_lr=1e30", "optimizer.warmup_fraction=0.01")
    assert "step 0" not in train(*failing)[1]
    manifest = next((tmp_path / "runs").rglob("manifest.json"))
    manifest.write_text(json.dumps({"code": "0123456789ab"}))
    (manifest.parent / "checkpoint" / "000000001").mkdir(parents=True)
    assert "starts again at step 0: its checkpoint is of other code (0123456789ab)" in train(*failing)[1]


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
    """The terminal sends it to all processes; their output ends with the last of them."""
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
