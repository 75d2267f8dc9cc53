"""Predicted memory against torch's allocations and the resident memory of fresh processes."""

import sys
from dataclasses import replace
from functools import partial

import pytest

from aimv2.config.program import replaced
from aimv2.config.recipes.post_training import lit
from aimv2.config.recipes.scales import demo, vit_3b, vit_l_2b
from aimv2.cost import num_parameters
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.definitions.objectives import BUILT_IN, objective
from aimv2.memory.setup import setup_of
from aimv2.memory.training import Setup, predict
from aimv2.objectives.build import build, implementation_of
from aimv2.request.resolve import with_attention
from aimv2.training.engine import Engine
from aimv2.training.optimizer import build_optimizer
from tests.helpers.marks import exhaustive
from tests.helpers.peak_memory import Case, allocated, peak_bytes, resident

GB = 10**9


def predicted(case):
    return predict(case.config, setup_of(case.config))


def assert_predicted(allocations, memory):
    held = memory.weights + memory.moments + memory.batch
    assert held + allocations == pytest.approx(memory.total - memory.process, rel=0.05)


def assert_allocations_match(case):
    assert_predicted(allocated(case), predicted(case))


@pytest.mark.parametrize(
    ("micro_batch", "saves_inputs"), [(256, False), exhaustive(64, True), exhaustive(256, True), exhaustive(64, False)]
)
def test_prediction_matches_allocations(micro_batch, saves_inputs):
    assert_allocations_match(Case(batch_size=256, micro_batch=micro_batch, saves_inputs=saves_inputs))


@pytest.mark.exhaustive
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("micro_batch", "saves_inputs"), [(4, False), (1, True), (4, True), (1, False)])
def test_prediction_matches_allocations_in_the_shape_of_vit_l(micro_batch, saves_inputs, precision):
    case = Case(batch_size=4, micro_batch=micro_batch, saves_inputs=saves_inputs, width=256, precision=precision)
    assert_allocations_match(case)


@pytest.mark.parametrize("precision", ["bfloat16", exhaustive("float32")])
@pytest.mark.parametrize(
    ("objective", "micro_batch", "saves_inputs"),
    [
        ("caption", 4, True),
        *(exhaustive("caption", *case) for case in ((1, True), (4, False))),
        *(exhaustive("aimv2", *case) for case in ((4, True), (1, True), (4, False))),
        *(exhaustive(name, 4, True) for name in ("image_only", "clip")),
    ],
)
def test_prediction_matches_allocations_of_many_patches(objective, micro_batch, saves_inputs, precision):
    sizes = {"batch_size": 4, "micro_batch": micro_batch, "width": 128, "depths": (4, 3), "image_px": 280}
    case = Case(**sizes, saves_inputs=saves_inputs, objective=objective, precision=precision)
    assert_allocations_match(case)


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "aimv2"])
def test_prediction_of_other_objectives_matches_allocations(name):
    assert_allocations_match(Case(batch_size=64, micro_batch=64, objective=name))


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="the largest resident memory is reset on Linux only")
@pytest.mark.parametrize(
    ("width", "batch_size", "micro_batch", "saves_inputs"),
    [(1024, 8, 8, True), (256, 16, 4, False), (None, 512, 512, True)],
)
def test_prediction_matches_the_resident_memory_of_a_fresh_process(width, batch_size, micro_batch, saves_inputs):
    sizes = {"width": width, "batch_size": batch_size, "micro_batch": micro_batch}
    case = Case(**sizes, saves_inputs=saves_inputs, objective="caption")
    memory = predicted(case)
    assert resident(case) == pytest.approx(memory.total - memory.process, rel=0.05)


SETUP = Setup(parallel="ddp", micro_batch=16, activation_checkpointing=False)


def on_gpus(config, ranks):
    return replace(with_attention(config), ranks=ranks, device="cuda", precision="bfloat16")


def test_shards_divide_weights_and_moments():
    config = on_gpus(vit_3b(), 8)
    whole, shards = (predict(config, replace(SETUP, parallel=parallel)) for parallel in ("ddp", "fsdp"))
    parameters = num_parameters(objective("aimv2").cost(config))
    assert (whole.weights, whole.gradients, whole.moments) == (4 * parameters, 4 * parameters, 8 * parameters)
    assert (shards.weights, shards.gradients, shards.moments) == (parameters // 2, parameters // 2, parameters)
    assert shards.copies < whole.weights, "a block and what is outside of blocks are whole"


def test_a_frozen_encoder_has_neither_gradients_nor_moments():
    config = on_gpus(lit(vit_l_2b()), 8)
    frozen, trained = (predict(one, SETUP) for one in (config, replaced(config, {"start.frozen": ()})))
    parts = objective("clip").cost(config)
    others = sum(part.parameters for part in parts if part.module != "encoder")
    assert frozen.weights == trained.weights == 4 * num_parameters(parts)
    assert frozen.moments == 8 * others
    assert frozen.gradients <= 4 * others
    assert frozen.activations < trained.activations / 2


def test_memory_grows_with_the_micro_batch_and_shrinks_with_precision_and_checkpointing():
    config = on_gpus(vit_l_2b(), 8)

    def total(size, saves_inputs=False, precision="bfloat16"):
        setup = replace(SETUP, micro_batch=size, activation_checkpointing=saves_inputs)
        return predict(replace(config, precision=precision), setup).total

    assert total(1) < total(16) < total(64)
    assert total(64, saves_inputs=True) < total(64) < total(64, precision="float32")


def test_a_gpu_holds_a_micro_batch_and_a_cpu_the_whole_share_and_what_loaders_have_ready():
    config = with_attention(replace(demo(), device="cpu", precision="float32"))
    image = 3 * 32**2 * 4 + 16 * 8 + 2 * 16 * 8
    setup = replace(SETUP, micro_batch=4)
    assert predict(config, setup).batch == 16 * image
    loading = replace(config, loader=replace(config.loader, num_workers=2))
    assert predict(loading, setup).batch == 2 * 16 * image, "two micro-batches ahead of each process, four in all"
    assert predict(replace(config, device="cuda"), setup).batch == 4 * image
    files = replaced(config, {"data.sources": ("mine.yaml",)})
    assert predict(files, setup).batch == 16 * (image - 3 * 3 * 32**2) + 4 * 3 * 32**2 * 4, "one is normalised"


@pytest.mark.exhaustive
@pytest.mark.parametrize("micro_batch", [16, 4])
def test_prediction_at_native_resolution_matches_the_allocations_of_the_largest_step(micro_batch, cache_dir):
    """In steps of each area, on pairs; captions are shorter than the longest ones, which takes less."""
    setup = {"parallel": "ddp", "micro_batch": micro_batch, "activation_checkpointing": False}
    config = replace(with_attention(demo()), device="cpu", precision="float32", **setup)
    values = {"native.areas": (8, 16, 64, 256), "model.encoder.positions": "sincos", "data.cache_dir": cache_dir}
    config = replaced(config, values | {"model.max_text_tokens": 4, "objective.supervise_eos": True})
    data = prepare(config.data, config.model.vocab_size)
    batches, model = TrainBatches(config, data.train, data.tokenizer), build(config)
    engine = Engine(implementation_of(objective("aimv2"))(model, config), config, setup_of(config))
    optimizer = build_optimizer(model, config.optimizer)

    def step(batch):
        engine.backward(engine.micro_batches(batch))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step(batches[0])  # AdamW's moments exist from here on
    found = {batch.num_patches: batch for batch in map(batches.__getitem__, range(60))}
    assert len(found) == 4
    largest = max(peak_bytes(partial(step, batch), "cpu") for batch in found.values())
    assert_predicted(largest, predict(config, setup_of(config)))
