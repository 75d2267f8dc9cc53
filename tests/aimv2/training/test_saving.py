"""When checkpoints are saved, and for how long training is stalled."""

import contextlib
from concurrent.futures import Future
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.base.errors import RunFailedError
from aimv2.config.log_config import LogConfig
from aimv2.data.batches.training import TrainBatches
from aimv2.model.network import build
from aimv2.spec.objectives import objective
from aimv2.training.loop import train
from aimv2.training.saving import Saver, SaveTimer
from aimv2.training.world import ALONE, World
from tests.helpers.training import Clock, Rows

NUM_STEPS = 6


class Writing(Future):
    """The writing of a checkpoint that ends at a time of the clock; to wait for it is to let the time pass."""

    def __init__(self, clock, seconds, error=None):
        super().__init__()
        self.clock, self.ends, self.error = clock, clock.now + seconds, error

    def done(self):
        return self.clock.now >= self.ends

    def result(self):
        self.clock.now = max(self.clock.now, self.ends)
        if self.error is not None:
            raise self.error


class Saves:
    """Saves that take time; counts the seconds for which they stalled training."""

    def __init__(self, clock, copy_seconds=0.0, write_seconds=0.0, errors=()):
        self.clock, self.copy_seconds, self.write_seconds = clock, copy_seconds, write_seconds
        self.errors, self.steps, self.most = dict(errors), [], 0
        self.writing = []

    def __call__(self, model, optimizer, step, shown):
        self.most = max(self.most, 1 + sum(not one.done() for one in self.writing))
        self.clock.now += self.copy_seconds
        self.steps.append(step)
        self.writing.append(Writing(self.clock, self.write_seconds, self.errors.get(step)))
        return self.writing[-1]


@pytest.fixture(scope="module")
def trained(tiny, with_samples, pairs):
    """Train for a few steps, of which each takes a second, with a saver."""
    config = replace(with_samples(tiny, NUM_STEPS * tiny.budget.batch_size), log=LogConfig(every_steps=1))

    def run(saver, clock, world=ALONE):
        batches = TrainBatches(config, pairs.train, pairs.tokenizer)
        with saver:
            goal = objective("aimv2")
            train(config, goal, build(config), batches, attempt=Rows(), on_rows=clock, world=world, saver=saver)

    return run


@pytest.mark.parametrize(
    ("every_seconds", "copy_seconds", "write_seconds", "saved"),
    [
        (100, 0, 0, [NUM_STEPS]),
        (1, 0, 0, [1, 2, 3, 4, 5, 6]),
        (3, 0, 0, [3, 6]),
        (1, 2.5 / 99, 0, [1, 4, 6]),  # the next one at least 2.5 s after the first
        (1, 50, 0, [1, 6]),
        (1, 0, 2.5, [1, 4, 6]),  # none while one is written
    ],
)
def test_the_interval_of_checkpoints_follows_the_stall_of_the_last(
    trained, every_seconds, copy_seconds, write_seconds, saved
):
    clock = Clock()
    saves = Saves(clock, copy_seconds, write_seconds)
    trained(Saver(saves, SaveTimer(every_seconds, clock)), clock)
    assert saves.steps == saved
    assert saves.most == 1
    assert all(one.done() for one in saves.writing), "training ends when the last one is written"


@pytest.mark.exhaustive
@given(
    every_seconds=st.floats(0.1, 1000),
    times=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1e5)), min_size=1, max_size=5),
    step_seconds=st.floats(0.5, 50),
)
def test_training_is_stalled_for_at_most_a_hundredth_of_the_time(every_seconds, times, step_seconds):
    """Whatever the copies and the writing take. Oracle: what the clock shows before and after each save."""
    clock = Clock()
    saves = Saves(clock)
    saver, stalled = Saver(saves, SaveTimer(every_seconds, clock)), 0.0
    for saves.copy_seconds, saves.write_seconds in [*times, (0.0, 0.0)]:
        while not saver.is_due:
            clock.now += step_seconds
        assert stalled <= 0.01 * clock.now * (1 + 1e-9)
        began = clock.now
        saver.start(None, None, len(saves.steps), None)
        stalled += clock.now - began
    assert saves.most == 1, "one is written at a time"


def test_a_checkpoint_that_cannot_be_written_is_a_warning_unless_it_is_the_last(trained, capsys):
    clock = Clock()
    saves = Saves(clock, errors={2: OSError("full"), 3: OSError("still full")})
    trained(Saver(saves, SaveTimer(1, clock)), clock)
    assert saves.steps == [1, 2, 3, 4, 5, 6]
    assert capsys.readouterr().err == (
        "no checkpoint at step 2, training goes on: full\nno checkpoint at step 3, training goes on: still full\n"
    )
    with pytest.raises(OSError, match="full"):
        trained(Saver(Saves(clock, errors={6: OSError("full")}), SaveTimer(1, clock)), clock)


def test_a_failure_waits_for_the_checkpoint_that_is_written(trained):
    clock = Clock()
    saves = Saves(clock, write_seconds=1000.0, errors={1: OSError("full")})

    def fail(rows):
        clock(rows)
        if rows[-1]["step"] == 3:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        trained(Saver(saves, SaveTimer(1, clock)), fail)
    assert saves.steps == [1]
    assert clock.now >= 1001, "and its error does not hide the failure"


@pytest.mark.parametrize(
    ("size", "error", "waits"),
    [
        (1, RuntimeError("broken"), True),
        (2, RuntimeError("gloo: a rank is gone"), False),
        (2, KeyboardInterrupt(), False),
        (2, RunFailedError("data", "bad images"), False),
        (2, RunFailedError("not finite", "text_loss is nan"), True),
        (2, None, True),
    ],
)
def test_an_error_of_one_of_several_ranks_waits_for_no_checkpoint(size, error, waits):
    """The others wait in the checkpoint or in the training until they learn of the error."""
    clock = Clock()
    saver = Saver(Saves(clock, write_seconds=1000.0), SaveTimer(1, clock), World(size=size))
    with contextlib.suppress(RuntimeError, KeyboardInterrupt, RunFailedError), saver:
        saver.start(None, None, 1, None)
        if error is not None:
            raise error
    assert clock.now == (1000.0 if waits else 0.0)
    saver.wait()
    assert clock.now == 1000.0


class Asked(World):
    """One rank that remembers what it asked the others."""

    asked: ClassVar = []

    def any(self, here):
        self.asked.append(here)
        return here


def test_only_rank_0_decides_by_its_clock(trained):
    clock = Clock()
    world = Asked(rank=1)
    saves = Saves(clock)
    trained(Saver(saves, SaveTimer(1e-9, clock), world), clock, world)
    assert len(world.asked) >= NUM_STEPS
    assert not any(world.asked)
    assert saves.steps == [NUM_STEPS]


def test_nothing_is_due_without_a_save(trained):
    """Not even with a timer that is due at every step."""
    clock = Clock()
    saver = Saver(timer=SaveTimer(0.0, clock))
    trained(saver, clock)
    assert not saver.is_due
