"""Convergence: how soon arms reach the baseline's loss, in samples, FLOPs and CPU time, and how far they are ahead."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from aimv2.ablations.study import Cost
from aimv2.analysis.document.model import Block, Paragraph, Section, Table, stacked
from aimv2.analysis.document.template import blocks_of
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.intervals import NO_ESTIMATE, Estimate, mean_interval
from aimv2.analysis.inference.survival import RestrictedMean, lead, loss_at, restricted_mean, time_to_reach
from aimv2.analysis.judgement.differences import COSTS, are_paired
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.sections.tables import Column, arm_table, withheld
from aimv2.base.errors import escape

FRACTIONS = (0.5, 1.0)  # of the baseline's budget, where its loss is the target
UNITS: Mapping[Cost, tuple[str, str]] = {  # and how numbers are printed
    "samples": ("samples", ",.0f"),
    "flops": ("FLOPs", ".2e"),
    "seconds": ("CPU seconds", ".2f"),
}

Curves = Mapping[str, Mapping[int, "pd.Series[float]"]]  # a held-out loss by cost, of each arm and seed


@dataclass(frozen=True)
class Convergence:
    """How soon an arm reaches the loss that the baseline has at a fraction of its budget, with the same seed or, for an
    arm with other seeds, on average."""

    reached: RestrictedMean  # the cost until then
    lead: Estimate  # at that fraction of the smaller budget, paired by seed; ``NO_ESTIMATE`` without pairs


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
    """Return the held-out loss of every run against a cost, the samples times the run's mean cost of one; runs whose
    cost was not measured are left out."""
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


def section(findings: Findings) -> Section | None:
    """Return the tables of convergence, that of samples first; None without a curve of a loss that arms share."""
    study, tables = findings.study, dict[Cost, Block]()
    for cost in UNITS if study.compares_curves else ():
        curves = curves_of(findings.evidence, cost)
        measured = {
            arm: [convergence(curves, arm, study.baseline, each) for each in FRACTIONS] for arm in study.conditions
        }
        known = {arm: [each for each in of_arm if each is not None] for arm, of_arm in measured.items()}
        if known := {arm: of_arm for arm, of_arm in known.items() if len(of_arm) == len(FRACTIONS)}:
            tables[cost] = _table(findings, cost, known)
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


def _table(findings: Findings, cost: Cost, measured: Mapping[str, Sequence[Convergence]]) -> Table:
    (unit, form), baseline = UNITS[cost], findings.study.baseline

    def reached(place: int, arm: str) -> str:
        found = measured[arm][place].reached
        mean, count = found.estimate, f"{found.num_reached} of {found.estimate.n} seeds"
        text = "≥ " * found.is_lower_bound + mean.text(form) if found.num_reached else f"> {mean.mean:{form}}"
        return withheld(findings, arm) or stacked(text, count)

    def ahead(place: int, arm: str) -> str:
        by = measured[arm][place].lead
        shown = "baseline" if arm == baseline else by.text(f"+{form}") if by.n else "other seeds"
        return withheld(findings, arm) or shown

    shares = [f"{100 * fraction:g} %" for fraction in FRACTIONS]
    columns: dict[str, Column] = {
        f"{unit} to the baseline's loss at {share} of its budget": partial(reached, place)
        for place, share in enumerate(shares)
    }
    columns |= {f"lead at {share} [{unit}]": partial(ahead, place) for place, share in enumerate(shares)}
    return arm_table(findings, f"convergence_{cost}", measured, columns)
