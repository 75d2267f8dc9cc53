"""The training loop, top to bottom: one for every arm of every study."""

import math
from collections.abc import Callable
from typing import Any

import torch

from aimv2.config import RunConfig
from aimv2.cost import train_flops
from aimv2.data.batches import TrainBatches, loader
from aimv2.errors import RunFailedError
from aimv2.model.aimv2 import AIMv2
from aimv2.objectives import aimv2_losses
from aimv2.record import Attempt
from aimv2.training.device import autocast
from aimv2.training.optimizer import build_optimizer, set_learning_rate
from aimv2.training.schedule import learning_rate

Row = dict[str, Any]
MEASURED = ("pixel_loss", "text_loss", "gradient_norm")


def train(
    config: RunConfig,
    model: AIMv2,
    batches: TrainBatches,
    *,
    attempt: Attempt,
    held_out_loss: Callable[[AIMv2], float],
    on_rows: Callable[[list[Row]], None],
) -> int:
    """Train the model in place for the whole budget.

    Args:
        attempt: receives a metric row per step.
        held_out_loss: caption loss of the model now, nats per token; asked at ``evaluation.curve_points`` places.
        on_rows: called with each group of new rows, for a progress display.

    Returns:
        training FLOPs, forward and backward.

    Raises:
        RunFailedError: a loss or gradient is not finite; the message names the step.
    """
    device = torch.device(config.device)
    optimizer = build_optimizer(model, config.optimizer)
    rate = learning_rate(config.optimizer)
    num_steps, batch_size = config.budget.num_steps, config.budget.batch_size
    points = config.evaluation.curve_points
    curve_steps = {round(i * num_steps / (points - 1)) for i in range(points)}
    pending: list[tuple[Row, torch.Tensor]] = []
    num_supervised = 0

    if num_steps == 0:
        return 0
    first = {"step": 0, "samples": 0, "train_flops": 0, "seconds": attempt.seconds}
    attempt.write_rows([first | {"held_out_caption_loss": held_out_loss(model)}])
    model.train()
    read_at = attempt.seconds
    for step, batch in enumerate(loader(batches, first_step=0, pin_memory=device.type == "cuda")):
        num_supervised += len(batch.supervised_N)
        batch = batch.to(device)
        step_rate = rate(step / num_steps)
        set_learning_rate(optimizer, step_rate)
        with autocast(config):
            pixel, text = aimv2_losses(model, *batch, config=config.objective, patch_px=config.model.patch_px)
        (text + config.objective.pixel_weight * pixel).backward()
        gradient_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        done = step + 1
        row = {
            "step": done,
            "samples": done * batch_size,
            "train_flops": train_flops(config.model, done * batch_size, num_supervised),
            "learning_rate": step_rate,
        }
        # The values stay on the device until the next read-back, so that no step waits for it.
        pending.append((row, torch.stack([pixel.detach(), text.detach(), gradient_norm])))
        if done in curve_steps or done % config.log.every_steps == 0 or done == num_steps:
            rows = _read_back(pending)
            seconds = attempt.seconds - read_at
            for row in rows:
                row |= {"seconds": attempt.seconds, "images_per_second": len(rows) * batch_size / seconds}
            pending.clear()
            _stop_if_not_finite(rows, attempt)
            if done in curve_steps:
                rows[-1]["held_out_caption_loss"] = held_out_loss(model)
                model.train()
            attempt.write_rows(rows)
            on_rows(rows)
            read_at = attempt.seconds
    return train_flops(config.model, config.budget.samples, num_supervised)


def _read_back(pending: list[tuple[Row, torch.Tensor]]) -> list[Row]:
    """Fetch the steps' values in one copy."""
    values = torch.stack([value for _, value in pending]).tolist()
    return [row | dict(zip(MEASURED, value, strict=True)) for (row, _), value in zip(pending, values, strict=True)]


def _stop_if_not_finite(rows: list[Row], attempt: Attempt) -> None:
    """End the run at the first step with a value that is not finite; the steps before it are kept."""
    for number, row in enumerate(rows):
        for name in MEASURED:
            if not math.isfinite(row[name]):
                attempt.write_rows(rows[:number])
                raise RunFailedError("not finite", f"{name} is {row[name]} at step {row['step']}")
