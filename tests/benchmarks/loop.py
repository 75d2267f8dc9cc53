"""python benchmarks/loop.py [repeats=30] [scale=demo] [threads=1] [clock=wall]: the training loop and bare steps.

Trains a run as ``python -m aimv2 train`` does, with its record, in blocks of ``log.every_steps`` steps, and in turn
takes bare steps on the batches of each block: forward and backward pass, gradient clipping, AdamW, on other weights.
Prints the median over blocks of the ratio of both times, and its 95 % interval by order statistics, which needs 6
repeats; once without the time of making batches, which are made before a block, and once with it. Blocks have no point
of the held-out curve and no checkpoint. ``clock=cpu`` counts CPU seconds of the process, for a busy machine.

Then trains the whole budget with a checkpoint whenever the timer of a run that asks for one a second allows it, and
prints for how much of the time of training they stalled it, in wall seconds.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

if __name__ == "__main__":  # typed as a path: the code beside this file is meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from aimv2.base.heap import keep_freed_memory
from aimv2.request.resolve import resolve
from aimv2.spec.objectives import objective
from benchmarks.timing import CLOCKS, ratio

from aimv2.config.recipes.scales import SCALES
from aimv2.config.run_config import RunConfig
from aimv2.config.signature import signature
from aimv2.data.batches.batch import Batch
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.model.network import build
from aimv2.runs.record import RunFolder
from aimv2.training import checkpoint
from aimv2.training.device import autocast
from aimv2.training.loop import train
from aimv2.training.optimizer import build_optimizer
from aimv2.training.saving import Saver, SaveTimer
from aimv2.training.world import ALONE

USAGE = f"{__doc__}"
DEFAULTS = {"repeats": "30", "scale": "demo", "threads": "1", "clock": "wall"}


class BareStep:
    """Forward and backward pass, clipping and AdamW, with new weights that stay as they are."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        model = build(config).to(config.device)
        self._objective = objective(config.objective.name).load()(model, config).train()
        self._parameters = list(self._objective.parameters())
        self._optimizer = build_optimizer(model, config.optimizer)
        for group in self._optimizer.param_groups:
            group["lr"] = 0.0  # so that they are finite after any number of steps, and the work is the same

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


def measure(config: RunConfig, repeats: int, clock: Callable[[], float], folder: Path) -> tuple[np.ndarray, ...]:
    """Train in a new folder of runs, and return seconds of making batches, of the loop and of bare steps, by block."""
    block = config.log.every_steps
    # The first block warms up, and the last is not ended by another one.
    budget = replace(config.budget, samples=config.budget.batch_size * block * (repeats + 2))
    evaluation = replace(config.evaluation, curve_points=2)
    config = resolve(replace(config, budget=budget, evaluation=evaluation, log=replace(config.log, picture_points=0)))
    torch.set_num_threads(config.threads)
    data = prepare(config.data, config.model)
    batches = Alternating(TrainBatches(config, data.train, data.tokenizer), BareStep(config), clock)
    with RunFolder(folder / "runs", signature(config)).acquire(config) as attempt:
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


def measure_stalls(
    config: RunConfig, folder: Path, clock: Callable[[], float] = time.monotonic, every_seconds: float = 1.0
) -> tuple[list[float], float]:
    """Train in a new folder of runs; return the seconds of each stall by a periodic checkpoint, and those of training.

    The checkpoint after the last step is left out: a run waits until it is written, however long it trained.
    """
    config = resolve(replace(config, evaluation=replace(config.evaluation, curve_points=2)))
    data, timer = prepare(config.data, config.model), Recording(every_seconds, clock)
    batches, started = TrainBatches(config, data.train, data.tokenizer), clock()
    with (
        RunFolder(folder / "saving", signature(config)).acquire(config) as attempt,
        Saver(partial(checkpoint.save_attempt, attempt, ALONE), timer) as saver,
    ):
        model = build(config).to(config.device)
        train(config, objective(config.objective.name), model, batches, attempt=attempt, saver=saver)
    return timer.stalls[:-1], clock() - started


def main(words: Sequence[str]) -> int:
    """Print a table."""
    if "--help" in words:
        print(USAGE, end="")
        return 0
    values = DEFAULTS | dict(word.partition("=")[::2] for word in words)
    if values.keys() != DEFAULTS.keys() or values["clock"] not in CLOCKS or values["scale"] not in SCALES:
        print(USAGE, end="")
        return 2
    keep_freed_memory()  # as a run on the CPU
    with tempfile.TemporaryDirectory() as folder:
        config = replace(SCALES[values["scale"]](), threads=int(values["threads"]), device="cpu")
        config = replace(config, data=replace(config.data, cache_dir=f"{folder}/cache"))
        data_R, loop_R, bare_R = measure(config, int(values["repeats"]), CLOCKS[values["clock"]], Path(folder))
        stalls, seconds = measure_stalls(config, Path(folder))
    milliseconds = 1000 / config.log.every_steps
    print("| a step of | ms | loop / bare [95 %] |\n| --- | --- | --- |")
    print(f"| bare | {milliseconds * np.median(bare_R):.2f} | |")
    for name, seconds_R in {"the loop": loop_R, "the loop, and making its batch": loop_R + data_R}.items():
        median, low, high = ratio(seconds_R, bare_R)
        print(f"| {name} | {milliseconds * np.median(seconds_R):.2f} | {median:.3f} [{low:.3f}, {high:.3f}] |")
    share = 100 * sum(stalls) / seconds
    print(f"{len(stalls)} checkpoints in {seconds:.1f} s of training stalled it for {share:.2f} % of the time")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
