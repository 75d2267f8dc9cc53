"""The training loop, top to bottom: one for every arm of every study."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aimv2.base.errors import RunFailedError
from aimv2.base.interrupt import Interrupts
from aimv2.config.native import Steps
from aimv2.config.run_config import RunConfig
from aimv2.cost import train_flops_by_area
from aimv2.data.batches.batch import Batch, Tally, of_step
from aimv2.data.batches.training import TrainBatches, loader
from aimv2.definitions.objectives import Objective
from aimv2.memory.setup import loading_of, setup_of
from aimv2.memory.training import Setup
from aimv2.model.network import Network
from aimv2.objectives.build import implementation_of
from aimv2.runs.attempt import Attempt, Unrecorded
from aimv2.training.checkpoint import Checkpoint, Progress, Saver
from aimv2.training.device import used_bytes
from aimv2.training.engine import Engine
from aimv2.training.optimizer import build_optimizer, learning_rate
from aimv2.training.world import ALONE, World

Row = dict[str, Any]


class Trained(NamedTuple):
    """What training has cost, shown and made."""

    flops: int  # forward and backward
    shown: Tally  # counts of its samples
    network: Network  # with whole weights; with several ranks, only rank 0 may use it


def train(
    config: RunConfig,
    goal: Objective,
    model: Network,
    batches: TrainBatches,
    *,
    attempt: Attempt | Unrecorded,
    held_out: Callable[[Network], Row] = lambda model: {},
    on_rows: Callable[[list[Row]], None] = lambda rows: None,
    start: Checkpoint | None = None,
    interrupts: Interrupts | None = None,
    world: World = ALONE,
    saver: Saver | None = None,
) -> Trained:
    """Train the model for the whole budget, in place unless its weights are sharded."""
    steps, setup = Steps(config), setup_of(config)
    parts = {area: goal.cost(config, area=area) for area in config.native.areas} or {steps.area(0): goal.cost(config)}
    rate = learning_rate(config.optimizer)
    num_steps, batch_size = config.budget.num_steps, config.budget.batch_size
    curve_steps = set(config.curve_steps)
    pending: list[tuple[Row, dict[str, Tensor]]] = []
    interrupts = interrupts or Interrupts()
    progress = Progress() if start is None else start.progress
    first_step, sources = progress.step, list(batches.pairs.parts)
    shown = Tally.of(progress.counts, len(sources)) if progress.counts else Tally.empty(len(sources))

    if num_steps == 0:
        return Trained(0, shown, model)
    if start is None:
        attempt.write_rows([{"step": 0, "samples": 0, "train_flops": 0, "seconds": attempt.seconds} | held_out(model)])
    engine = Engine(implementation_of(goal)(model, config), config, setup, world)
    optimizer = build_optimizer(model, config.optimizer)
    if start is not None:
        start.restore(model, optimizer)
    model.train()
    saver = saver or Saver()

    def is_due() -> bool:
        return world.any(interrupts.is_requested or saver.is_due)

    def spent(done: int) -> int:
        return train_flops_by_area(parts, steps.images_by_area(done), shown.num_supervised)

    if config.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    read_at, cpu_read_at = attempt.seconds, attempt.cpu_seconds
    remaining = load_steps(batches, setup, has_padding=engine.objective.reads_padding, first_step=first_step)
    for step in range(first_step, num_steps):
        micro_batches = next(remaining)
        tally = world.sum(sum((part.tally for part in micro_batches), Tally.empty(len(sources))))
        micro_batches = of_step(micro_batches, tally)
        shown += tally
        if tally.num_bad:  # the same on all ranks
            samples = [bad for part in micro_batches for bad in part.bad]
            attempt.write_bad([bad._asdict() for bad in world.gather(samples)])
            shown.check(config.data.max_bad_rate, sources)
        step_rate = rate(step / num_steps)
        for group in optimizer.param_groups:
            group["lr"] = step_rate
        balance = engine.gradient_balance(micro_batches) if step + 1 in curve_steps or step == 0 else {}
        measured = engine.backward(micro_batches) | balance | {"gradient_norm": engine.clip_gradients()}
        del micro_batches  # so that the host does not hold two steps while it waits for the next one
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        done = step + 1
        row = {"step": done, "samples": done * batch_size, "train_flops": spent(done), "learning_rate": step_rate}
        # The values stay on the device until the next read-back, so that no step waits for it.
        pending.append((row, measured))
        if done in curve_steps or done % config.log.every_steps == 0 or done == num_steps or is_due():
            rows = _read_back(pending, world)
            seconds = attempt.seconds
            of_machine: Row = {
                "seconds": seconds,
                "images_per_second": len(rows) * batch_size / (seconds - read_at),
                "step_cpu_seconds": (attempt.cpu_seconds - cpu_read_at) / len(rows),
            }
            if (memory := used_bytes(config.device)) is not None:
                of_machine["memory_bytes"] = memory
            for row in rows:
                row |= of_machine
            pending.clear()
            _stop_if_not_finite(rows, attempt)
            if done in curve_steps:
                rows[-1] |= held_out(engine.whole_network())
                model.train()
            attempt.write_rows(rows)
            on_rows(rows)
            read_at, cpu_read_at = attempt.seconds, attempt.cpu_seconds
        # Checked again, because an interrupt may come while a held-out point is measured. After the last step always:
        # if evaluation is interrupted or fails, no step has to be repeated.
        if not pending and (done == num_steps or is_due()):
            saver.start(model, optimizer, done, shown)
            is_interrupted = world.any(interrupts.is_requested)
            if is_interrupted or done == num_steps:
                saver.finish()
            if is_interrupted:
                raise KeyboardInterrupt
    return Trained(spent(num_steps), shown, engine.whole_network())


def _read_back(pending: list[tuple[Row, dict[str, Tensor]]], world: World) -> list[Row]:
    """Fetch the steps' values in one copy. Those of the whole batch are the mean over the ranks."""
    here = torch.stack([value.detach().float() for _, measured in pending for value in measured.values()])
    values = iter(world.mean(here.cpu()).tolist())
    return [row | {name: next(values) for name in measured} for row, measured in pending]


def _stop_if_not_finite(rows: list[Row], attempt: Attempt | Unrecorded) -> None:
    """Fail the run at the first step with a value that is not finite; earlier steps are still recorded."""
    for number, row in enumerate(rows):
        for name in row:
            if name.endswith(("_loss", "gradient_norm")) and not math.isfinite(row[name]):
                attempt.write_rows(rows[:number])
                raise RunFailedError("not finite", f"{name} is {row[name]} at step {row['step']}")


def load_steps(
    batches: TrainBatches, setup: Setup, *, has_padding: bool = False, first_step: int = 0
) -> Iterator[list[Batch]]:
    """Load the micro-batches of each step from ``first_step`` on, each with its own counts, for a GPU page-locked."""
    loading = loading_of(batches.config, setup)
    return loader(
        batches,
        micro_batch=setup.micro_batch,
        has_padding=has_padding,
        first_step=first_step,
        num_workers=loading.num_workers,
        prefetched=loading.prefetched,
        pin_memory=batches.config.device == "cuda",
    )
