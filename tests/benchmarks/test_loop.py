"""The benchmark of the training loop."""

from dataclasses import replace
from itertools import count

import numpy as np
import torch

from aimv2.config.run_config import LogConfig
from aimv2.data.batches.training import TrainBatches
from aimv2.memory import setup_of
from aimv2.model.network import build
from aimv2.spec.objectives import objective
from aimv2.training.engine import Engine
from benchmarks.loop import BareStep, time_blocks, time_stalls


def test_blocks_of_the_loop_and_bare_steps_are_timed_in_turn(tiny, tmp_path):
    """With a clock that counts its readings, of which there are none within the timings."""
    ticks = count()
    config = replace(tiny, log=LogConfig(every_steps=3))
    data_R, loop_R, bare_R = time_blocks(config, 4, lambda: float(next(ticks)), tmp_path)
    for seconds_R in (data_R, loop_R, bare_R):
        np.testing.assert_array_equal(seconds_R, [1.0] * 4)


def test_stalls_are_those_of_periodic_checkpoints(tiny, tmp_path):
    """Every reading of the clock is a second after the one before. A stall has one, and the next comes 99 later."""
    ticks = count()
    config = replace(tiny, budget=replace(tiny.budget, samples=150 * 8))
    stalls, seconds = time_stalls(config, tmp_path, lambda: float(next(ticks)), every_seconds=0.0)
    assert stalls == [1.0] * len(stalls)
    assert 2 <= len(stalls) <= 1 + seconds / 100, "the first one is free"
    assert len(list(tmp_path.glob("saving/*/attempts/0001/checkpoint/*"))) > 0


def test_bare_step_has_the_gradients_of_the_loop(tiny, pairs):
    batches = TrainBatches(tiny, pairs.train, pairs.tokenizer)
    found = {}

    bare = BareStep(tiny)
    bare._optimizer.register_step_post_hook(
        lambda *_: found.update((name, value.grad.clone()) for name, value in bare._objective.named_parameters())
    )
    bare(bare.trimmed(batches[0]))
    module = objective(tiny.objective.name).load()(build(tiny), tiny)
    engine = Engine(module, tiny, setup_of(tiny))
    engine.backward(batches[0])
    engine.clip_gradients()
    for name, value in module.named_parameters():
        torch.testing.assert_close(found[name], value.grad, rtol=0, atol=0, msg=name)
