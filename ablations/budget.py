"""Matched budgets: equal samples or training FLOPs."""

from typing import Literal

from aimv2.base.errors import UsageError
from aimv2.config.program import Run
from aimv2.run.price import flops_per_sample

Equal = Literal["samples", "flops"]  # what arms can share with the baseline
Cost = Literal["samples", "flops", "seconds"]  # what reports compare

UNEQUAL = 0.01  # relative deviation from the matched quantity above which an arm is marked as unequal


def matched(run: Run, baseline: Run, equal: Equal) -> Run:
    """Return the run with the samples that match the baseline's training FLOPs, in whole batches and at least one.

    With equal samples a run is unchanged, so an arm can vary its samples.

    Raises:
        UsageError: equal FLOPs are requested, and those of another model are not known, or the training captions cannot
            be read.
    """
    if equal == "samples" or run == baseline:
        return run
    own = flops_per_sample(run)
    if not own:
        raise UsageError(f"sweep.equal=flops is not possible: runs of {run.kind} have no flops_per_sample()")
    ratio = flops_per_sample(baseline) / own
    return run.with_samples(baseline.num_samples * ratio)
