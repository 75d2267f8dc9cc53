"""The training loop, top to bottom: one for every arm of every study."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from aimv2.config import RunConfig
from aimv2.cost import train_flops
from aimv2.data.batches import TrainBatches, loader
from aimv2.errors import RunFailedError
from aimv2.interrupt import Interrupts
from aimv2.model.network import Network
from aimv2.objectives import objective
from aimv2.record import Attempt
from aimv2.training.checkpoint import Checkpoint, Progress, keep
from aimv2.training.device import autocast
from aimv2.training.optimizer import build_optimizer, set_learning_rate
from aimv2.training.schedule import learning_rate

Row = dict[str, Any]


def train(
    config: RunConfig,
    model: Network,
    batches: TrainBatches,
    *,
    attempt: Attempt,
    held_out: Callable[[Network], Row],
    on_rows: Callable[[list[Row]], None],
    start: Checkpoint | None = None,
    interrupts: Interrupts | None = None,
) -> int:
    """Train the model in place for the whole budget.

    Args:
        attempt: receives a metric row per step, and checkpoints by the clock.
        held_out: values of the model now for the held-out curve, by name; asked at ``evaluation.curve_points`` places.
        on_rows: called with each group of new rows, for a progress display.
        start: what to go on from; None starts anew. Its rows are not written again.
        interrupts: asked after each step whether to stop there.

    Returns:
        training FLOPs, forward and backward.

    Raises:
        RunFailedError: a loss or gradient is not finite; the message names the step.
        KeyboardInterrupt: it was asked to stop, and has kept a checkpoint.
        OSError: a checkpoint or a row could not be written.
    """
    device = torch.device(config.device)
    goal = objective(config.objective.name)
    parts = goal.cost(config)
    optimizer = build_optimizer(model, config.optimizer)
    rate = learning_rate(config.optimizer)
    num_steps, batch_size = config.budget.num_steps, config.budget.batch_size
    points = config.evaluation.curve_points
    curve_steps = {round(i * num_steps / (points - 1)) for i in range(points)}
    pending: list[tuple[Row, dict[str, Tensor]]] = []
    asked = interrupts or Interrupts()
    progress = Progress() if start is None else start.progress
    first_step, num_supervised = progress.step, progress.num_supervised

    if num_steps == 0:
        return 0
    if start is None:
        first = {"step": 0, "samples": 0, "train_flops": 0, "seconds": attempt.seconds}
        attempt.write_rows([first | held_out(model)])
    else:
        start.restore(model, optimizer)
    model.train()
    kept_at = time.monotonic()

    def is_due() -> bool:
        return asked.is_requested or time.monotonic() - kept_at >= config.checkpoint.every_seconds

    read_at = attempt.seconds
    remaining = loader(batches, first_step=first_step, pin_memory=device.type == "cuda")
    for step, batch in enumerate(remaining, start=first_step):
        num_supervised += len(batch.supervised_N)
        batch = batch.to(device)
        step_rate = rate(step / num_steps)
        set_learning_rate(optimizer, step_rate)
        with autocast(config):
            losses = goal.losses(model, batch, config)
        measured = dict(losses.terms)
        if step + 1 in curve_steps or step == 0:
            measured |= gradient_balance(losses.terms, goal.shared_parameters(model))
        losses.total.backward()
        gradient_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        done = step + 1
        row = {
            "step": done,
            "samples": done * batch_size,
            "train_flops": train_flops(parts, done * batch_size, num_supervised),
            "learning_rate": step_rate,
        }
        # The values stay on the device until the next read-back, so that no step waits for it.
        pending.append((row, measured | {"gradient_norm": gradient_norm}))
        if done in curve_steps or done % config.log.every_steps == 0 or done == num_steps or is_due():
            rows = _read_back(pending)
            seconds = attempt.seconds - read_at
            for row in rows:
                row |= {"seconds": attempt.seconds, "images_per_second": len(rows) * batch_size / seconds}
            pending.clear()
            _stop_if_not_finite(rows, attempt)
            if done in curve_steps:
                rows[-1] |= held_out(model)
                model.train()
            attempt.write_rows(rows)
            on_rows(rows)
            read_at = attempt.seconds
        # After the last step too: evaluating may be stopped, or die, and then nothing is trained again.
        if not pending and (is_due() or done == num_steps):
            attempt.sync_rows()
            keep(attempt.folder, model, optimizer, Progress(done, num_supervised, attempt.seconds, attempt.cpu_seconds))
            kept_at = time.monotonic()
            if asked.is_requested:
                raise KeyboardInterrupt
    return train_flops(parts, config.budget.samples, num_supervised)


def gradient_balance(terms: dict[str, Tensor], shared: list[nn.Parameter]) -> dict[str, Tensor]:
    """How the two terms of a loss pull at the parameters they share: the norm of each one's gradient, and the cosine
    between them. Nothing where there are not two terms or nothing is shared."""
    if len(terms) != 2 or not shared:
        return {}
    gradients = {
        name: torch.cat([part.flatten() for part in torch.autograd.grad(term, shared, retain_graph=True)])
        for name, term in terms.items()
    }
    one, other = gradients.values()
    norms = {f"{name}_gradient": gradient.norm() for name, gradient in gradients.items()}
    return norms | {"gradient_cosine": torch.cosine_similarity(one, other, dim=0)}


def _read_back(pending: list[tuple[Row, dict[str, Tensor]]]) -> list[Row]:
    """Fetch the steps' values in one copy."""
    values = iter(
        torch.stack([value.detach().float() for _, measured in pending for value in measured.values()]).tolist()
    )
    return [row | {name: next(values) for name in measured} for row, measured in pending]


def _stop_if_not_finite(rows: list[Row], attempt: Attempt) -> None:
    """End the run at the first step with a value that is not finite; the steps before it are kept."""
    for number, row in enumerate(rows):
        for name in row:
            if name.endswith(("_loss", "gradient_norm")) and not math.isfinite(row[name]):
                attempt.write_rows(rows[:number])
                raise RunFailedError("not finite", f"{name} is {row[name]} at step {row['step']}")
