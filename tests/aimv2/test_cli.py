"""``python -m aimv2`` as it is typed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
        (["fly"], "unknown command 'fly'. Allowed: bench, cost, train, verify, weights."),
        (["train", "scale=huge"], "unknown scale 'huge'"),
        (["train", "model.encoder.num_heads=5"], "width=96 is not divisible by num_heads=5"),
        (["train", "prefix.law=fixed", "prefix.fraction=0"], "must be above 0"),
        (["train", "runs_dir=/proc/nowhere"], "runs_dir='/proc/nowhere' cannot be written"),
        (["train", "device=cuda", "runs_dir=runs"], "sees no CUDA device"),
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


def test_help_needs_nothing(tmp_path):
    shown = typed("--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert "python -m aimv2 COMMAND" in shown.stdout
    assert not list(Path(tmp_path).iterdir())
