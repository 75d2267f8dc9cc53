"""Training and evaluation on a GPU, against the CPU and against what was predicted."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import polars as pl
import pytest
import torch

from aimv2.config.program import replaced
from aimv2.definitions.objectives import BUILT_IN, objective
from aimv2.evaluation.evaluate import evaluate
from aimv2.memory.evaluation import predict_evaluation
from aimv2.memory.setup import setup_of
from aimv2.memory.training import PROCESS_BYTES
from aimv2.objectives.build import build, implementation_of
from aimv2.runs.record import RunFolder
from aimv2.training.engine import Engine
from tests.gpu.steps import MEMORY, peak_and_predicted
from tests.helpers.training import changed, small_run

pytestmark = pytest.mark.gpu

VARIANTS = [
    *({"objective.name": name} for name in BUILT_IN),
    {"model.decoder.sharing": "separate"},
    {"model.decoder.order": "text_first"},
    {"activation_checkpointing": True, "micro_batch": 2},
]


def losses_and_gradients(config, batch):
    model = build(config).to(config.device)
    engine = Engine(implementation_of(objective(config.objective.name))(model, config), config, setup_of(config))
    terms = engine.backward(engine.micro_batches(batch))
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {name: value.detach().cpu() for name, value in (terms | gradients).items()}


@pytest.mark.parametrize("is_compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_losses_and_gradients_are_those_of_the_cpu(tiny, batch, changes, is_compiled):
    config = changed(tiny, changes)
    expected = losses_and_gradients(config, batch)
    found = losses_and_gradients(replace(config, device="cuda", compile=is_compiled), batch)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 1e-4 * value.norm() + 1e-7, name


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_bfloat16_is_near_float32(tiny, batch, changes):
    config = changed(tiny, changes | {"device": "cuda"})
    exact, found = (
        losses_and_gradients(replace(config, precision=precision), batch) for precision in ("float32", "bfloat16")
    )
    for name in exact:
        if name.endswith("_loss"):
            assert found[name] == pytest.approx(float(exact[name]), rel=0.02), name


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_have_the_losses_of_one(tmp_path, cache_dir, parallel):
    rows = []
    for number, ranks in enumerate((1, 2)):
        values = [f"ranks={ranks}", f"parallel={parallel}", "precision=float32", f"runs_dir={tmp_path / str(number)}"]
        assert train(cache_dir, *values).returncode == 0
        rows.append(rows_of(tmp_path / str(number)))
    for one, two in zip(*rows, strict=True):
        assert two["text_loss"] == pytest.approx(one["text_loss"], rel=1e-3)


def test_a_run_resumes_from_its_checkpoint(tmp_path, cache_dir):
    values = ["budget.samples=6400", "checkpoint.every_seconds=0.2", "log.every_steps=10"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(cache_dir, *values, f"runs_dir={whole}").returncode == 0
    process = subprocess.Popen(command(cache_dir, *values, f"runs_dir={parts}"))
    while not list(parts.glob("*/attempts/*/checkpoint/*")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait() != 0, "it ended before it could be interrupted"
    assert train(cache_dir, *values, f"runs_dir={parts}").returncode == 0
    for one, other in zip(rows_of(whole), rows_of(parts), strict=True):
        assert other["step"] == one["step"]
        assert other["text_loss"] == pytest.approx(one["text_loss"], rel=0.02)


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize(("scale", "micro_batch", "num_parts", "values"), MEMORY)
def test_memory_is_as_predicted(world_of, scale, micro_batch, num_parts, values, precision):
    peak, predicted = peak_and_predicted(world_of, scale, micro_batch, num_parts, {"precision": precision} | values)
    assert peak == pytest.approx(predicted, rel=0.05)


def test_evaluation_stays_within_its_prediction(tiny, pairs):
    config = replaced(tiny, {"device": "cuda", "precision": "bfloat16"})
    model = build(config).to("cuda")
    torch.cuda.reset_peak_memory_stats()
    evaluate(model, objective(config.objective.name), pairs, config)
    assert torch.cuda.max_memory_allocated() <= predict_evaluation(config).device - PROCESS_BYTES


def test_runs_share_the_gpu(tmp_path, cache_dir):
    values = ["sweep=prefix_ratio", "sweep.arms=[uniform,causal]", "sweep.seeds=1", "executor.runs_per_gpu=2"]
    folders = [f"runs_dir={tmp_path / 'runs'}", f"reports_dir={tmp_path / 'reports'}"]
    small = [word for word in small_run(cache_dir) if not word.startswith("data.sources")]
    done = subprocess.run([sys.executable, "sweeps/launch.py", *values, *folders, *small, "device=cuda"], check=False)
    assert done.returncode == 0
    assert all(RunFolder(path.parent, path.name).is_done for path in (tmp_path / "runs").glob("v2-*"))


def command(cache_dir, *arguments):
    return [sys.executable, "-m", "aimv2", "train", *small_run(cache_dir, "device=cuda", *arguments)]


def train(cache_dir, *arguments):
    return subprocess.run(command(cache_dir, *arguments), check=False, env=os.environ)


def rows_of(runs_dir):
    """Return the steps of the only trained run, of all its attempts."""
    tables = [pl.read_parquet(path) for path in runs_dir.glob("v2-*/attempts/*/metrics.parquet")]
    trained = [table.select("step", "text_loss").drop_nulls() for table in tables if "text_loss" in table.columns]
    return pl.concat(trained).sort("step").to_dicts()
