"""What limits a number, in a few words that stand beside it."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from aimv2.ablations.budget import UNEQUAL, Cost
from aimv2.ablations.study import Study
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.intervals import NO_ESTIMATE, Estimate, mean_interval
from aimv2.analysis.judgement.compare import mixed_code, reasons_to_withhold
from aimv2.analysis.judgement.controls import withholding
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.sensitivity import insensitive

# Muennighoff et al. (arXiv 2305.16264): in language models, up to 4 epochs of repeated text are nearly as good as new
# text, and more repeats are worth less and less. We know of no such measurement for pairs of images and captions.
MAX_EPOCHS = 4

# By cost, that in words and its column in the table of runs.
COSTS: Mapping[Cost, tuple[str, str]] = {
    "samples": ("samples", "samples"),
    "flops": ("FLOPs", "train_flops"),
    "seconds": ("training time", "train_cpu_seconds"),  # the wall time of one run also measures the load of the machine
}


def notes(findings: Findings, arm: str, metric: str = "") -> tuple[str, ...]:
    """Return what limits a number of an arm, as plain text.

    Args:
        metric: the metric that the number is of; empty for a cost, which has neither controls nor a sensitivity.
    """
    return (*metric_notes(findings, metric), *arm_notes(findings, arm, metric))


def metric_notes(findings: Findings, metric: str) -> tuple[str, ...]:
    """Return what limits all numbers of a metric: code, controls and sensitivity."""
    study, evidence = findings.study, findings.evidence
    if mixed := mixed_code(study, evidence):
        return (mixed,)  # the controls are inconclusive for this reason alone
    found = []
    if len(evidence.codes) > 1:
        found.append(f"the runs are of {len(evidence.codes)} codes, which the sweep allows")
    if metric:
        found += withholding(findings.controls, [metric])
        found += filter(None, [_sensitivity(findings, metric)])
    return tuple(found)


def arm_notes(findings: Findings, arm: str, metric: str = "") -> tuple[str, ...]:
    """Return what limits the numbers of an arm: failed runs, missing or few seeds, budget, epochs, and in metrics of
    the encoder a difference from the baseline that was there before training."""
    study, evidence = findings.study, findings.evidence
    has_one_code = not mixed_code(study, evidence)
    failed = reasons_to_withhold(study, evidence, [arm, study.baseline]) if has_one_code else []
    budget = []
    if is_unequal(study, evidence, arm):
        ratio = relative_cost(study, evidence, arm, study.equal)
        budget = [f"unequal: {ratio:.2f} x the baseline's {COSTS[study.equal][0]}"]
    return (*failed, *_seeds(findings, arm, metric), *budget, *_epochs(evidence, arm), *_before(findings, arm, metric))


def relative_cost(study: Study, evidence: Evidence, arm: str, unit: Cost) -> float:
    """Return the ratio of an arm's mean cost to the baseline's; NaN if one has none, or it was not measured.

    Wall time stands in for CPU time if a device trained.
    """
    costs = _costs(evidence, unit).mean()
    cost, baseline = costs.get(arm, 0.0), costs.get(study.baseline, 0.0)
    return float(cost / baseline) if cost > 0 and baseline > 0 else math.nan  # the untrained encoder costs nothing


def relative_time(study: Study, evidence: Evidence, arm: str) -> Estimate:
    """Return the logarithm of the ratio of an arm's time of training to the baseline's, over the seeds of both."""
    costs = _costs(evidence, "seconds")
    if not {arm, study.baseline} <= set(costs):
        return NO_ESTIMATE
    return mean_interval(np.log(costs[arm] / costs[study.baseline]))


def _costs(evidence: Evidence, unit: Cost) -> pd.DataFrame:
    """Return the cost of each run, a row per seed and a column per arm; empty if it was not measured."""
    runs, column = evidence.runs, COSTS[unit][1]
    if unit == "seconds" and "train_seconds" in runs and runs[column].isna().any():
        column = "train_seconds"
    if column not in runs:
        return pd.DataFrame()
    return runs.pivot(index="seed", columns="arm", values=column).astype(float)


def is_unequal(study: Study, evidence: Evidence, arm: str) -> bool:
    """True if an arm's cost differs from the baseline's although the study holds it equal."""
    return abs(relative_cost(study, evidence, arm, study.equal) - 1) >= UNEQUAL  # never true of NaN


def _sensitivity(findings: Findings, metric: str) -> str:
    """Return that a metric decides nothing; empty if it can, and in the study that measures it."""
    if findings.ladder or not insensitive(metric, findings.sensitivity):
        return ""
    if metric not in findings.sensitivity:
        return f"the sensitivity of {metric} was not measured"
    return f"{metric} is not sensitive at this scale"


def _seeds(findings: Findings, arm: str, metric: str) -> list[str]:
    """Say how many seeds have no result yet, or fewer were requested; those of failed runs are named elsewhere."""
    evidence = findings.evidence
    requested, of_baseline = evidence.num_runs(arm), evidence.num_runs(findings.study.baseline)
    unfinished = requested - evidence.num_failed(arm) - int((evidence.runs["arm"] == arm).sum())
    found = [f"{unfinished} of {requested} seeds missing"] if unfinished else []
    found += [f"{requested} of the baseline's {of_baseline} seeds"] if 0 < requested < of_baseline else []
    num_seeds = len(evidence.value(metric, arm).dropna()) if metric else int((evidence.runs["arm"] == arm).sum())
    return [*found, "one seed, so no interval"] if num_seeds == 1 else found


def _epochs(evidence: Evidence, arm: str) -> list[str]:
    own = evidence.mixture[evidence.mixture["arm"] == arm]
    means = own.groupby("source", sort=False)["epochs"].mean()
    often = means[means > MAX_EPOCHS]
    return [f"{times:.3g} epochs of {source}, more than {MAX_EPOCHS}" for source, times in often.items()]


def _before(findings: Findings, arm: str, metric: str) -> list[str]:
    found = [one.difference for one in findings.starts if (one.arm, one.metric) == (arm, metric)]
    return [
        f"before training {one.text()} from the baseline already" if one.n else "not measured before training"
        for one in found
        if one.excludes_zero or not one.n
    ]
