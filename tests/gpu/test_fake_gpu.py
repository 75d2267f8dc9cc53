"""Training on a GPU that computes nothing: devices, types, copies, graphs and memory are those of a real one."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch._dynamo.utils import counters

from aimv2.config.program import replaced
from aimv2.config.training_config import LogConfig
from aimv2.data.batches.training import TrainBatches
from aimv2.definitions.objectives import BUILT_IN, objective
from aimv2.objectives.build import build
from aimv2.training.loop import train
from aimv2.training.world import ALONE
from tests.gpu.fake_gpu import NAME
from tests.gpu.steps import MEMORY, peak_and_predicted
from tests.helpers.native import NATIVE
from tests.helpers.training import Rows, changed, small_run

pytestmark = pytest.mark.fake_gpu

NUM_STEPS = 6
MAX_GRAPHS = 4
WORKSPACE = 34_000_000  # bytes that torch gives to cuBLAS on an H100
VARIANTS = [
    *({"objective.name": name} for name in BUILT_IN),
    {"objective.pixel_patches": "image_mean"},
    {"model.decoder.sharing": "separate"},
    {"model.decoder.order": "text_first"},
    NATIVE | {"budget.batch_size": 16},
    {"augment.hidden_fraction": 0.5},
    {"residual": "bfloat16", "precision": "bfloat16"},
    {"activation_checkpointing": True, "micro_batch": 2},
]


@pytest.fixture(autouse=True)
def without_inductor():
    """Trace compiled blocks and their backward pass, but do not generate code."""
    torch.compiler.set_stance("default", force_backend="aot_eager")
    yield
    torch.compiler.set_stance("default")


def trained(config, pairs, copies, world=ALONE, implementation=None):
    """Train for six steps, and count the copies of the third and the fourth; return the number of compiled graphs.

    Before them a step allocates moments, and FSDP2 its buffers; after them the last step gathers the weights.
    """
    goal, model = objective(config.objective.name), build(config).to("cuda")
    goal = goal if implementation is None else replace(goal, implementation=implementation)
    batches = TrainBatches(config, pairs.train, pairs.tokenizer, None if world.size == 1 else world.rank)
    before = counters["stats"]["unique_graphs"]
    record = Rows()
    counted = {2: copies.reset, 4: copies.read}
    record.write_rows = lambda rows: counted.get(rows[-1]["step"], lambda: None)()
    train(config, goal, model, batches, attempt=record, world=world)
    return counters["stats"]["unique_graphs"] - before


def output_of(module, *arguments):
    """Return what a module prints on a GPU whose memory is 0 wherever a kernel would have written."""
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def on_gpu(tiny, changes, **values):
    config = changed(tiny, changes)
    own = {"budget.samples": NUM_STEPS * config.budget.batch_size, "device": "cuda"}
    return replaced(replace(config, log=LogConfig(every_steps=2)), own | values)


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize(("ranks", "parallel"), [(1, "ddp"), (2, "ddp"), (2, "fsdp"), (4, "hsdp")])
@pytest.mark.parametrize("is_compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_training_waits_for_one_copy_to_the_host(
    tiny, pairs, copies, world_of, changes, is_compiled, ranks, parallel, precision
):
    precision = changes.get("precision", precision)
    config = on_gpu(
        tiny, changes, precision=precision, compile=is_compiled, ranks=ranks, parallel=parallel, ranks_per_node=2
    )
    num_graphs = trained(config, pairs, copies, world_of(ranks))
    assert (copies.to_host, copies.pageable) == (1, 0)
    assert bool(num_graphs) == is_compiled
    assert num_graphs <= MAX_GRAPHS


def test_a_planted_wait_is_counted(tiny, pairs, copies):
    trained(on_gpu(tiny, {}), pairs, copies, implementation="tests.gpu.planted:Waiting")
    assert copies.to_host > 1


@pytest.mark.parametrize("word", ["compile=false", "compile=true"])
def test_a_run_trains_and_is_evaluated(tmp_path, cache_dir, word):
    """With code of Inductor and Triton if it is compiled. Without a cache all memory that kernels would write is 0."""
    arguments = small_run(cache_dir, "device=cuda", word, f"runs_dir={tmp_path}")
    assert "run folder: " in output_of("aimv2", "train", *arguments)


@pytest.mark.parametrize(("scale", "name"), [("laptop", "aimv2"), ("tiny", "aimv2"), ("tiny", "clip")])
def test_the_evaluation_holds_no_more_than_is_predicted(cache_dir, scale, name):
    found = json.loads(output_of("tests.gpu.evaluated", scale, name, cache_dir).splitlines()[-1])
    assert found["predicted"] / 4 < found["held"] <= found["predicted"] + WORKSPACE


def test_a_step_is_timed():
    arguments = ["device=cuda", "scale=demo", "precision=bfloat16", "batch=16", "micro_batch=8", "repeats=2"]
    shown = output_of("benchmarks", "step", *arguments)
    assert all(word in shown for word in ("MFU", "ddp, 8 images", NAME))


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize(
    ("scale", "micro_batch", "num_parts", "values"),
    [
        *MEMORY,
        ("vit_l", 16, 2, {"ranks": 8, "parallel": "fsdp"}),
        ("vit_l", 16, 2, {"ranks": 8, "parallel": "fsdp", "activation_checkpointing": True}),
    ],
)
def test_memory_is_as_predicted(world_of, scale, micro_batch, num_parts, values, precision):
    peak, predicted = peak_and_predicted(world_of, scale, micro_batch, num_parts, {"precision": precision} | values)
    assert peak == pytest.approx(predicted, rel=0.05 if values.get("ranks", 1) == 1 else 0.1)
