"""Convergence: how soon arms reach the baseline's loss, in samples, FLOPs and CPU time, and how far they are ahead."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import pandas as pd

from aimv2.ablations.study import Cost
from aimv2.analysis.document.model import Block, Paragraph, Section, stacked
from aimv2.analysis.document.template import blocks_of
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.intervals import NO_ESTIMATE, Estimate, mean_interval
from aimv2.analysis.inference.survival import RestrictedMean, lead, loss_at, restricted_mean, time_to_reach
from aimv2.analysis.judgement.differences import COSTS, are_paired
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.sections.tables import Column, arm_table, estimate_cell, withheld
from aimv2.base.markdown import escape

FRACTIONS = (0.5, 1.0)  # of the baseline's budget, where its loss is the target
UNITS: Mapping[Cost, tuple[str, str]] = {  # and how numbers are printed
    "samples": ("samples", ",.0f"),
    "flops": ("FLOPs", ".2e"),
    "seconds": ("CPU seconds", ".2f"),
}

Curves = Mapping[str, Mapping[int, "pd.Series[float]"]]  # a held-out loss by cost, of each arm and seed


@dataclass(frozen=True)
class Convergence:
    """How soon an arm reaches the loss that the baseline has at a fraction of its budget.

    Attributes:
        reached: the cost until then. The target is the baseline's loss with the same seed; for an arm with other seeds
            it is the mean over the baseline's seeds.
        lead: by how much the arm is ahead of the baseline at that fraction of the smaller budget, paired by seed;
            ``NO_ESTIMATE`` for the baseline itself, and for an arm with other seeds.
    """

    reached: RestrictedMean
    lead: Estimate


def convergence(curves: Curves, arm: str, baseline: str, fraction: float) -> Convergence | None:
    """Return how soon an arm reaches the baseline's loss; None if a curve or a cost was not measured."""
    of_arm, of_baseline = curves.get(arm, {}), curves.get(baseline, {})
    targets = {seed: loss_at(curve, fraction * curve.index[-1]) for seed, curve in of_baseline.items()}
    if not are_paired(arm, baseline):
        targets = dict.fromkeys(of_arm, float(np.mean(list(targets.values())))) if targets else {}
    seeds = [seed for seed in of_arm if seed in targets]
    if not seeds:
        return None
    times = [time_to_reach(of_arm[seed], targets[seed]) for seed in seeds]
    reached = restricted_mean(times, [float(of_arm[seed].index[-1]) for seed in seeds])
    if arm == baseline or not are_paired(arm, baseline):
        return Convergence(reached, NO_ESTIMATE)
    horizon = fraction * min(float(curve[seed].index[-1]) for seed in seeds for curve in (of_arm, of_baseline))
    ahead = np.array([lead(of_arm[seed], of_baseline[seed], horizon) for seed in seeds])
    return Convergence(reached, mean_interval(ahead, size=horizon))


def curves_of(evidence: Evidence, cost: Cost) -> Curves:
    """Return the held-out loss of every run against a cost; runs whose cost was not measured are left out.

    The cost of a sample is the same throughout a run, so other costs are the samples times the run's mean cost of one.
    """
    column = COSTS[cost][1]
    if not evidence.curve.endswith("_loss") or column not in evidence.runs:
        return {}  # some objectives have no curve of a loss, which falls
    runs = evidence.runs[(evidence.runs["samples"] > 0) & evidence.runs[column].notna()]
    points = evidence.curves.dropna(subset=[evidence.curve]).sort_values("samples")
    by_run = dict(iter(points.groupby(["arm", "seed"])))
    curves: dict[str, dict[int, pd.Series[float]]] = {}
    for arm, seed, samples, spent in runs[["arm", "seed", "samples", column]].itertuples(index=False):
        if (arm, seed) in by_run:
            rows = by_run[arm, seed]
            index = rows["samples"].to_numpy(float) * (float(spent) / samples)
            curves.setdefault(arm, {})[seed] = pd.Series(rows[evidence.curve].to_numpy(float), index=index)
    return curves


Measured = Mapping[
    str, Mapping[Cost, Mapping[float, Convergence]]
]  # by arm, cost and fraction of the baseline's budget


def section(findings: Findings) -> Section | None:
    """Return the tables of convergence, that of samples first; None without a curve of a loss that arms share."""
    measured, tables = _measured(findings), dict[Cost, Block]()
    for cost, (unit, _) in UNITS.items():
        arms = [arm for arm, by_cost in measured.items() if len(by_cost.get(cost, {})) == len(FRACTIONS)]
        columns: dict[str, Column] = {
            f"{unit} to the baseline's loss at {100 * fraction:g} % of its budget": partial(
                _reached, findings, measured, cost, fraction
            )
            for fraction in FRACTIONS
        }
        for fraction in FRACTIONS:
            columns[f"lead at {100 * fraction:g} % [{unit}]"] = partial(_lead, findings, measured, cost, fraction)
        if arms:
            tables[cost] = arm_table(findings, f"convergence_{cost}", arms, columns)
    if not tables:
        return None
    first, *others = tables.values()
    if "seconds" not in tables:
        others.append(Paragraph("CPU time is not compared, because it was not measured in all runs."))
    if limits := findings.reasons.limits_of_metric():
        others.append(Paragraph(f"Limits of all numbers: {escape('; '.join(limits))}."))
    curve = findings.evidence.curve.removeprefix("held_out_").replace("_", " ")
    more = [Section("FLOPs and CPU time", others)] if others else []
    return Section("Convergence", [*blocks_of("convergence", curve=curve), first, *more])


def _measured(findings: Findings) -> Measured:
    """Return the convergence of all arms with runs; none if their losses are not comparable."""
    study, measured = findings.study, dict[str, dict[Cost, dict[float, Convergence]]]()
    if not study.compares_curves:
        return measured
    curves = {cost: curves_of(findings.evidence, cost) for cost in COSTS}
    for arm in study.conditions:
        for cost, fraction in product(COSTS, FRACTIONS):
            if of_arm := convergence(curves[cost], arm, study.baseline, fraction):
                measured.setdefault(arm, {}).setdefault(cost, {})[fraction] = of_arm
    return measured


def _reached(findings: Findings, measured: Measured, cost: Cost, fraction: float, arm: str) -> str:
    if hidden := withheld(findings, arm):
        return hidden
    reached, form = measured[arm][cost][fraction].reached, UNITS[cost][1]
    mean, count = reached.estimate, f"{reached.num_reached} of {reached.estimate.n} seeds"
    text = "≥ " * reached.is_lower_bound + mean.text(form) if reached.num_reached else f"> {mean.mean:{form}}"
    return stacked(text, count)


def _lead(findings: Findings, measured: Measured, cost: Cost, fraction: float, arm: str) -> str:
    ahead = measured[arm][cost][fraction].lead
    if hidden := withheld(findings, arm):
        return hidden
    if arm == findings.study.baseline:
        return "baseline"
    return estimate_cell(ahead, f"+{UNITS[cost][1]}") if ahead.n else "other seeds"
