"""Time the training loop beside bare steps, and the stalls by its checkpoints.

Trains a run as python -m aimv2 train does, with its record, in blocks of log.every_steps steps, and in turn takes bare
steps on the batches of each block: forward and backward pass, gradient clipping, AdamW, on other weights; once without
the time of making batches, which are made before a block, and once with it. Blocks have no point of the held-out curve
and no checkpoint.

Then it trains the whole budget with a checkpoint whenever the timer of a run that asks for one a second allows it, for
the share of the time (in wall seconds) for which they stall training.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base.heap import keep_freed_memory
from aimv2.config.data_config import CHECKED
from aimv2.config.run_config import RunConfig
from aimv2.config.signature import signature
from aimv2.data.batches.batch import Batch
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.model.network import build
from aimv2.request.resolve import resolve
from aimv2.runs.record import RunFolder
from aimv2.spec.objectives import objective
from aimv2.training import checkpoint
from aimv2.training.device import autocast
from aimv2.training.loop import train
from aimv2.training.saving import Saver, SaveTimer
from aimv2.training.world import ALONE
from analysis.costs.ratios import relative
from benchmarks.options import Timed
from benchmarks.results import Cell, Table
from benchmarks.timing import CLOCKS
from benchmarks.training import recipe, still_optimizer


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LoopOptions(Timed):
    """Which run to train."""

    repeats: int = Field(default=30, ge=2, description="blocks that are timed; an interval needs 6")
    threads: int = Field(default=1, gt=0, description="CPU threads of the run")
    scale: str = Field(default="demo", description="scale of the run")
    samples: int | None = Field(
        default=None,
        gt=0,
        description="budget of the run with checkpoints; the default is the scale's",
        examples=["640"],
    )


def measure(options: LoopOptions) -> Iterator[Table]:
    """Yield the steps of the loop and bare ones, and the stalls; an unknown scale is a UsageError."""
    keep_freed_memory()  # as a run on the CPU
    with tempfile.TemporaryDirectory() as folder:
        config = replace(recipe(options.scale), threads=options.threads, device="cpu")
        config = replace(config, data=replace(config.data, cache_dir=f"{folder}/cache"))
        data_R, loop_R, bare_R = time_blocks(config, options.repeats, CLOCKS[options.clock], Path(folder))
        seconds = {"bare": bare_R, "the loop": loop_R, "the loop, and making its batch": loop_R + data_R}
        rows: list[dict[str, Cell]] = [
            {
                "a step of": name,
                "ms": 1000 / config.log.every_steps * float(np.median(seconds_R)),
                "its time / bare": relative(seconds_R, bare_R) if name != "bare" else None,
            }
            for name, seconds_R in seconds.items()
        ]
        yield Table(f"steps of {config.scale}", rows)
        budget = replace(config.budget, samples=options.samples or config.budget.samples)
        stalls, whole = time_stalls(replace(config, budget=budget), Path(folder))
    row: dict[str, Cell] = {
        "checkpoints": len(stalls),
        "seconds of training": whole,
        "stalled, %": 100 * sum(stalls) / whole,
    }
    yield Table("stalls by checkpoints", [row])


class BareStep:
    """Forward and backward pass, clipping and AdamW, with new weights that stay as they are."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        model = build(config).to(config.device)
        self._objective = objective(config.objective.name).load()(model, config).train()
        self._parameters = list(self._objective.parameters())
        self._optimizer = still_optimizer(model, config)

    def __call__(self, batch: Batch) -> None:
        with autocast(self._config):
            losses = self._objective(batch.to(torch.device(self._config.device)))
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, self._config.optimizer.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def trimmed(self, batch: Batch) -> Batch:
        """Return the batch as the loop computes it, without padding."""
        (whole,) = batch.split(len(batch.image), has_padding=self._objective.reads_padding)
        return whole


class Alternating(TrainBatches):
    """Batches that are made block by block, and take bare steps after each block of the loop's.

    Attributes:
        data, loop, bare: seconds of each block: of making its batches, of the loop with them, and of bare steps.
    """

    def __init__(self, batches: TrainBatches, bare: BareStep, clock: Callable[[], float]) -> None:
        super().__init__(batches.config, batches.pairs, batches.tokenizer)
        self._step, self._clock = bare, clock
        self._block: list[Batch] = []
        self._started = 0.0
        self.data, self.loop, self.bare = list[float](), list[float](), list[float]()

    def __getitem__(self, step: int) -> Batch:
        place = step % self.config.log.every_steps
        if not place:
            if self._block:
                self.loop.append(self._clock() - self._started)
                self.bare.append(self._take_bare_steps())
            self._make_block(step)
            self._take_bare_steps()  # not timed: making batches has emptied the caches
            self._started = self._clock()
        return self._block[place]

    def _make_block(self, step: int) -> None:
        started = self._clock()
        steps = range(step, min(step + self.config.log.every_steps, len(self)))
        self._block = [super(Alternating, self).__getitem__(each) for each in steps]
        self.data.append(self._clock() - started)

    def _take_bare_steps(self) -> float:
        block = [self._step.trimmed(batch) for batch in self._block]
        started = self._clock()
        for batch in block:
            self._step(batch)
        return self._clock() - started


def time_blocks(config: RunConfig, repeats: int, clock: Callable[[], float], folder: Path) -> tuple[np.ndarray, ...]:
    """Train in a new folder of runs, and return seconds of making batches, of the loop and of bare steps, by block."""
    block = config.log.every_steps
    # The first block warms up, and the last is not ended by another one.
    budget = replace(config.budget, samples=config.budget.batch_size * block * (repeats + 2))
    evaluation = replace(config.evaluation, curve_points=2)
    config = resolve(replace(config, budget=budget, evaluation=evaluation, log=replace(config.log, picture_points=0)))
    torch.set_num_threads(config.threads)
    data = prepare(config.data, config.model)
    batches = Alternating(TrainBatches(config, data.train, data.tokenizer), BareStep(config), clock)
    attempt = RunFolder(folder / "runs", signature(config)).acquire(config)
    assert attempt is not None, "no other process has this folder"
    with attempt:
        train(config, objective(config.objective.name), build(config).to(config.device), batches, attempt=attempt)
    return tuple(np.array(seconds[1 : repeats + 1]) for seconds in (batches.data, batches.loop, batches.bare))


class Recording(SaveTimer):
    """A run's timer, which keeps the seconds of each stall."""

    def __init__(self, every_seconds: float, clock: Callable[[], float]) -> None:
        super().__init__(every_seconds, clock)
        self.stalls = list[float]()

    @contextmanager
    def saving(self) -> Iterator[None]:
        with super().saving():
            yield
        self.stalls.append(self._cost)


def time_stalls(
    config: RunConfig, folder: Path, clock: Callable[[], float] = time.monotonic, every_seconds: float = 1.0
) -> tuple[list[float], float]:
    """Train in a new folder of runs; return the seconds of each stall by a periodic checkpoint, and those of training.

    The checkpoint after the last step is left out: a run waits until it is written, however long it trained.
    """
    config = resolve(replace(config, evaluation=replace(config.evaluation, curve_points=2)))
    data, timer = prepare(config.data, config.model), Recording(every_seconds, clock)
    batches, started = TrainBatches(config, data.train, data.tokenizer), clock()
    attempt = RunFolder(folder / "saving", signature(config)).acquire(config)
    assert attempt is not None, "no other process has this folder"
    with (
        attempt,
        Saver(partial(checkpoint.save_attempt, attempt, ALONE), timer) as saver,
    ):
        model = build(config).to(config.device)
        train(config, objective(config.objective.name), model, batches, attempt=attempt, saver=saver)
    return timer.stalls[:-1], clock() - started
