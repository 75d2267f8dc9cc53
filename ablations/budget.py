"""Matched budgets: equal samples or training FLOPs."""

import dataclasses
from typing import Literal

from aimv2.config.run_config import RunConfig
from aimv2.cost.parts import train_flops
from aimv2.spec.objectives import objective

Equal = Literal["samples", "flops"]  # what arms can share with the baseline
Cost = Literal["samples", "flops", "seconds"]  # what reports compare

UNEQUAL = 0.01  # relative deviation from the matched quantity above which an arm is marked as unequal


def matched(run: RunConfig, baseline: RunConfig, equal: Equal) -> RunConfig:
    """Return the run with the samples that match the baseline's training FLOPs, in whole batches and at least one.

    With equal samples a run is unchanged, so an arm can vary its samples.

    Raises:
        UsageError: equal FLOPs are requested, and the training captions cannot be read.
    """
    if equal == "samples" or run == baseline:
        return run
    ratio = flops_per_sample(baseline) / flops_per_sample(run)
    batch_size = run.budget.batch_size
    num_batches = max(round(baseline.budget.samples * ratio / batch_size), 1)
    return dataclasses.replace(run, budget=dataclasses.replace(run.budget, samples=num_batches * batch_size))


def flops_per_sample(run: RunConfig) -> float:
    """Return the expected training FLOPs of a sample; only supervised tokens are projected to the vocabulary.

    Raises:
        UsageError: the training captions cannot be read.
    """
    parts, num_samples, num_tokens = objective(run.objective.name).cost(run), 10_000, 0
    if any(part.per_token for part in parts):
        from aimv2.data.expected import mean_supervised_tokens  # here, because other plans need no captions

        num_tokens = round(num_samples * mean_supervised_tokens(run))
    return train_flops(parts, num_samples, num_tokens) / num_samples
