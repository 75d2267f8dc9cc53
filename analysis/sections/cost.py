"""What the runs cost, and whether it was equal where the study holds it equal."""

import math
from collections.abc import Callable, Mapping

import pandas as pd

from ablations.budget import Equal
from analysis.document.model import Cell, Paragraph, Section, Table
from analysis.judgement.findings import Findings
from analysis.judgement.guards import COSTS, arm_notes, is_unequal, relative_cost
from analysis.sections.words import runs_of, with_limits

COLUMNS: Mapping[str, Callable[[pd.DataFrame], str]] = {
    "runs": lambda runs: str(len(runs)),
    "samples per run": lambda runs: f"{runs['samples'].mean():,.0f}",
    "training FLOPs per run": lambda runs: f"{runs['train_flops'].mean():.3g}",
    "minutes per run": lambda runs: f"{runs['seconds'].mean() / 60:.2f}",
    "of which training": lambda runs: f"{runs['train_seconds'].mean() / 60:.2f}",
    "CPU minutes of training steps": lambda runs: _minutes(runs["train_cpu_seconds"]),
    "FLOPs of all runs": lambda runs: f"{runs['train_flops'].sum():.3g}",
    "hours of all runs": lambda runs: f"{runs['seconds'].sum() / 3600:.3f}",
}


def section(findings: Findings) -> Section:
    """Return the cost of each arm and of all; of the baseline alone if nothing is compared with it."""
    note = "FLOPs are computed in closed form for forward and backward passes (2 per multiply-add)."
    if findings.compares:
        equal = COSTS[findings.study.equal][0]
        note += f" The study holds {equal} equal across arms; an arm that deviates is marked as unequal."
    title = "Cost" if findings.compares else "Cost of the baseline's runs"
    return Section(title, [_table(findings), Paragraph(note)])


def _table(findings: Findings) -> Table:
    """Return the costs, marked where the study holds one equal to the baseline and it is not."""
    study, runs, units = findings.study, findings.evidence.runs, COSTS if findings.compares else {}
    table = Table(["arm", *COLUMNS, *(f"{title} relative to baseline" for title, _ in units.values())], name="cost")
    if runs.empty:
        return table
    arms = findings.present(list(runs["arm"].unique()))
    for arm in arms:
        own = runs[runs["arm"] == arm]
        relative = [_relative(findings, arm, unit) for unit in units]
        label = Cell((study.label(arm),), runs_of(findings.evidence, arm))
        table.rows.append([label, *(cost(own) for cost in COLUMNS.values()), *relative])
    limits = [arm_notes(findings, arm) for arm in arms]
    if findings.compares:
        table.rows.append(["all", *(cost(runs) for cost in COLUMNS.values()), *("" for _ in units)])
        limits.append(())
    return with_limits(table, limits)


def _minutes(seconds: "pd.Series[float]") -> str:
    return "not measured" if seconds.isna().any() else f"{seconds.mean() / 60:.2f}"


def _relative(findings: Findings, arm: str, unit: Equal) -> str:
    """Return the ratio to the baseline's cost, marked if it should be 1 and is not."""
    study, evidence = findings.study, findings.evidence
    ratio = relative_cost(study, evidence, arm, unit)
    if math.isnan(ratio):
        return ""
    return f"{ratio:.2f} x" + " (unequal)" * (unit == study.equal and is_unequal(study, evidence, arm))
