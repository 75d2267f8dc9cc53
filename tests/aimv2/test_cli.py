"""``python -m aimv2`` as it is typed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aimv2.cli import main

SMALL = (
    "budget.samples=64",
    "data.sources=[fontawesome,openmoji]",
    "evaluation.num_pairs=32",
    "evaluation.curve_pairs=16",
    "evaluation.probe.epochs=1",
)


def typed(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "aimv2", *arguments], cwd=cwd, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_train_prints_both_encoders_and_a_second_time_trains_nothing(tmp_path, cache_dir):
    first = typed("train", "scale=demo", f"data.cache_dir={cache_dir}", *SMALL, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "untrained" in first.stdout
    assert "caption_loss" in first.stdout
    (pixels,) = [line for line in first.stdout.splitlines() if "│ pixel_loss_0.5 " in line]
    assert pixels.split("│")[-2].strip() == "squared error"
    runs = sorted((tmp_path / "runs").iterdir())
    assert len(runs) == 2
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    second = typed("train", "scale=demo", f"data.cache_dir={cache_dir}", *SMALL, cwd=tmp_path)
    assert second.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path in before} == before
    assert len(list((tmp_path / "runs").rglob("attempts/*"))) == 2


@pytest.mark.slow
def test_a_run_that_fails_says_why_and_where(tmp_path, cache_dir):
    failed = typed(
        "train",
        f"data.cache_dir={cache_dir}",
        *SMALL,
        "optimizer.peak_lr=1e30",
        "optimizer.warmup_fraction=0.01",
        cwd=tmp_path,
    )
    assert failed.returncode == 1
    assert "not finite" in failed.stderr
    assert "Traceback" not in failed.stderr + failed.stdout
    assert not list((tmp_path / "runs").rglob("result.json"))
    failure = json.loads(next((tmp_path / "runs").rglob("failure.json")).read_text())
    assert failure["cause"] == "not finite"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "unknown command 'fly'. Allowed: bench, cost, train, weights."),
        (["train", "scale=huge"], "unknown scale 'huge'"),
        (["train", "model.encoder.num_heads=5"], "width=96 is not divisible by num_heads=5"),
        (["train", "prefix.law=fixed", "prefix.fraction=0"], "must be above 0"),
        (["train", "runs_dir=/proc/nowhere"], "runs_dir='/proc/nowhere' cannot be written"),
        (["train", "device=cuda", "runs_dir=runs"], "finds no CUDA device"),
        (["train", "objective.name=clop"], "unknown objective.name 'clop'. Did you mean 'clip'?"),
        (["cost", "model.decoder.sharing=separate", "objective.name=cappa"], "only 'joint'"),
        (["cost", "runs_dir=runs"], "unknown key 'runs_dir'"),
        (["cost", "seed=1", "seed=2"], "seed= is given twice; once is allowed"),
        (["weights", "import", "to=x"], "from="),
        (["bench", "decoder"], "encoder"),
    ],
)
def test_bad_input_gets_one_sentence_and_a_status(tmp_path, arguments, message, cache_dir):
    if "device=cuda" in arguments:
        arguments = [*arguments, f"data.cache_dir={cache_dir}", "data.sources=[fontawesome]"]
    refused = typed(*arguments, cwd=tmp_path)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("attempts"))


def test_cost_adds_up_and_names_what_is_in_the_network(tmp_path):
    shown = typed("cost", "scale=vit_l", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "encoder        309.2 M" in shown.stdout
    assert "1.03e+22 training FLOPs" in shown.stdout
    clip = typed("cost", "scale=vit_l", "objective.name=clip", cwd=tmp_path)
    assert "text tower" in clip.stdout
    assert "decoder" not in clip.stdout
    assert not list(Path(tmp_path).iterdir())


@pytest.mark.slow
def test_what_a_rival_cannot_report_is_not_applicable(tmp_path, cache_dir):
    shown = typed("train", f"data.cache_dir={cache_dir}", *SMALL, "objective.name=siglip", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    rows = {line.split("│")[1].strip(): line for line in shown.stdout.splitlines() if line.count("│") > 3}
    assert "image_to_text_recall_1" in rows
    assert not {name for name in rows if "caption" in name or "pixel" in name}
    (absent,) = [line for line in shown.stdout.splitlines() if line.startswith("not applicable to this run: ")]
    assert absent.split(": ")[1].split(", ")[:2] == ["caption_loss", "caption_bits"]


def test_help_needs_nothing(tmp_path):
    shown = typed("--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert "python -m aimv2 COMMAND" in shown.stdout
    assert not list(Path(tmp_path).iterdir())


HELPS = {
    ("train",): ("budget.samples=4096", "runs_dir=runs", "objective.name=aimv2"),
    ("cost",): ("scale=demo", "vit_3b"),
    ("weights",): ("layout=auto",),
    ("bench",): ("repeats=10", "batch_size="),
    ("bench", "encoder"): ("repeats=10",),
}


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize(("command", "keys"), HELPS.items(), ids=" ".join)
def test_every_command_has_its_own_help_and_does_nothing_else(command, keys, flag, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*command, "scale=demo", flag]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"usage: python -m aimv2 {command[0]}")
    assert all(key in shown.out for key in (*keys, "debug=true"))
    assert shown.err == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["train"], ["cost"], ["weights", "import"], ["bench", "encoder"]])
def test_debug_is_the_same_for_every_command(command, tmp_path, monkeypatch, capsys):
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


@pytest.mark.slow
def test_a_run_without_samples_is_one_run_in_one_column(tmp_path, cache_dir, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", f"data.cache_dir={cache_dir}", *SMALL[1:], "budget.samples=0"]) == 0
    assert len(list((tmp_path / "runs").iterdir())) == 1
    (head,) = [line for line in capsys.readouterr().out.splitlines() if "metric" in line]
    assert [cell.strip() for cell in head.split("┃")[1:-1]] == ["metric", "untrained", "unit"]
