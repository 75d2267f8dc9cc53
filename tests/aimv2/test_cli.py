"""The commands of ``python -m aimv2``."""

import json
import subprocess
import sys
import time

import pytest

from aimv2.cli import main
from aimv2.config.arguments import guarded
from tests.helpers.training import small_run


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


def test_run_that_other_code_has_begun_is_announced_to_start_again(train, tmp_path):
    failing = ("budget.samples=80", "optimizer.peak_lr=1e30", "optimizer.warmup_fraction=0.01")
    assert "step 0" not in train(*failing)[1]
    manifest = next((tmp_path / "runs").rglob("manifest.json"))
    manifest.write_text(json.dumps({"code": "0123456789ab"}))
    (manifest.parent / "checkpoint" / "000000001").mkdir(parents=True)
    assert "starts again at step 0: its checkpoint is of other code (0123456789ab)" in train(*failing)[1]


def test_interrupted_command_says_how_to_resume(capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    assert guarded(interrupted, []) == 130
    assert capsys.readouterr().out == "Interrupted. Run the same command to resume from the last checkpoint.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "unknown command 'fly'. Allowed: bench, cost, data, evaluate, train, weights."),
        (["train", "scale=huge"], "unknown scale 'huge'"),
        (["train", "model.encoder.num_heads=5"], "width=96 is not divisible by num_heads=5"),
        (["train", "prefix.law=fixed", "prefix.fraction=0"], "prefix.fraction: Input should be greater than 0 (got 0)"),
        (["train", "runs_dir=/proc/nowhere"], "runs_dir='/proc/nowhere' cannot be written"),
        (["train", "device=cuda", "data.sources=[fontawesome]"], "finds no CUDA device"),
        (["train", "objective.name=clop"], "unknown objective.name 'clop'. Did you mean 'clip'?"),
        (["cost", "model.decoder.sharing=separate", "objective.name=cappa"], "only 'joint'"),
        (["cost", "runs_dir=runs"], "unknown key 'runs_dir'"),
        (["cost", "seed=1", "seed=2"], "seed= is given twice; once is allowed"),
        (["weights", "import", "to=x"], "from="),
        (["bench", "decoder"], "encoder"),
    ],
)
def test_bad_input_gets_one_sentence_and_status_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    refused = capsys.readouterr().err
    assert message in refused
    assert refused.count("\n") == 1
    assert not list(tmp_path.rglob("attempts"))


def test_cost_lists_the_parts_of_the_network(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["cost", "scale=vit_l"]) == 0
    printed = capsys.readouterr().out
    assert "encoder        309.2 M" in printed
    assert "1.03e+22 training FLOPs" in printed
    assert main(["cost", "scale=vit_l", "objective.name=clip"]) == 0
    clip = capsys.readouterr().out
    assert "text tower" in clip
    assert "decoder" not in clip
    assert not list(tmp_path.iterdir())


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


def test_python_m_aimv2_prints_its_usage_and_refuses_bad_input(tmp_path):
    def typed(*arguments):
        return subprocess.run([sys.executable, "-m", "aimv2", *arguments], cwd=tmp_path, capture_output=True, text=True)

    usage = typed("--help")
    assert usage.returncode == 0
    assert "python -m aimv2 COMMAND" in usage.stdout
    assert typed("fly").returncode == 2
    assert not list(tmp_path.iterdir())


HELPS = {
    ("train",): ("budget.samples=4096", "runs_dir=runs", "objective.name=aimv2"),
    ("cost",): ("scale=demo", "vit_3b"),
    ("weights",): ("layout=auto",),
    ("evaluate",): ("weights=PATH", "data=FILE.yaml"),
    ("bench",): ("encoder", "data"),
    ("bench", "encoder"): ("repeats=10", "batch_size="),
    ("bench", "data"): ("repeats=6", "batches="),
}


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize(("command", "keys"), HELPS.items(), ids=" ".join)
def test_command_help_prints_its_keys_only(command, keys, flag, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*command, "scale=demo", flag]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"usage: python -m aimv2 {command[0]}")
    assert all(key in shown.out for key in (*keys, "debug=true"))
    assert shown.err == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command", [["train"], ["cost"], ["weights", "import"], ["bench", "encoder"], ["bench", "data"]]
)
def test_every_command_takes_debug(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for debug, has_traceback in (("debug=true", True), ("debug=false", False)):
        assert main([*command, "nothing=1", debug]) == 2
        shown = capsys.readouterr().err
        assert "error: unknown key 'nothing'" in shown
        assert ("Traceback" in shown) == has_traceback
    for debug in (["debug=maybe"], ["debug=true", "debug=true"], ["debug="]):
        assert main([*command, *debug]) == 2
        assert "debug" in (refused := capsys.readouterr().err)
        assert refused.count("\n") == 1


def test_warning_of_a_metric_is_printed(train):
    grid = "evaluation.probe.learning_rates=[1e-9,1e-2]"
    status, printed, _ = train("budget.samples=0", grid, "evaluation.probe.epochs=8")
    assert status == 0
    warnings = [line for line in printed.splitlines() if line.startswith("warning: ")]
    assert "warning: probe_digits: the best learning rate, 0.01, is at the edge of the grid" in warnings
