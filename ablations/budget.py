"""Matched budgets: equal samples, training FLOPs or training seconds."""

import dataclasses
from collections.abc import Callable
from typing import Literal

from aimv2.base.errors import UsageError

from aimv2.config.run_config import RunConfig
from aimv2.cost.parts import Part, train_flops

Equal = Literal["samples", "flops", "seconds"]

UNEQUAL = 0.01  # relative deviation from the matched quantity above which an arm is marked as unequal


def matched(
    run: RunConfig, baseline: RunConfig, equal: Equal, images_per_second: Callable[[RunConfig], float | None]
) -> RunConfig:
    """Return the run with the samples that match the baseline's FLOPs or seconds, in whole batches and at least one.

    With equal samples a run is unchanged, so an arm can vary its samples.

    Raises:
        UsageError: equal seconds are requested, and this machine cannot train these models; or equal FLOPs, and the
            training captions cannot be read.
    """
    if equal == "samples" or run == baseline:
        return run
    if equal == "flops":
        ratio = flops_per_sample(baseline) / flops_per_sample(run)
    else:
        speed, baseline_speed = images_per_second(run), images_per_second(baseline)
        if speed is None or baseline_speed is None:
            raise UsageError("sweep.equal=seconds needs a machine that can train these models to measure their speed")
        ratio = speed / baseline_speed
    batch_size = run.budget.batch_size
    num_batches = max(round(baseline.budget.samples * ratio / batch_size), 1)
    return dataclasses.replace(run, budget=dataclasses.replace(run.budget, samples=num_batches * batch_size))


def flops_per_sample(run: RunConfig) -> float:
    """Return the expected training FLOPs of a sample; only supervised tokens are projected to the vocabulary.

    Raises:
        UsageError: the training captions cannot be read.
    """
    parts, num_samples, num_tokens = _cost(run), 10_000, 0
    if any(part.per_token for part in parts):
        from aimv2.data.expected import mean_supervised_tokens  # here, because other plans need no captions

        num_tokens = round(num_samples * mean_supervised_tokens(run))
    return train_flops(parts, num_samples, num_tokens) / num_samples


def max_train_flops(run: RunConfig, samples: int) -> int:
    """Return an upper bound on training FLOPs, for which no caption is read: all captions have full length."""
    return train_flops(_cost(run), samples, samples * run.model.max_text_tokens)


def _cost(run: RunConfig) -> list[Part]:
    from aimv2.spec.objectives import objective

    return objective(run.objective.name).cost(run)
