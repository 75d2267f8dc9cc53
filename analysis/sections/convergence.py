"""Convergence: what arms spend until they reach the baseline's loss."""

from collections.abc import Mapping

from aimv2.ablations.budget import Cost
from aimv2.analysis.document.model import Block, Paragraph, Section, Table, stacked
from aimv2.analysis.document.template import blocks_of
from aimv2.analysis.judgement.convergence import FRACTIONS, Convergence, Curves
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.guards import COSTS, arm_notes, metric_notes
from aimv2.analysis.sections.words import with_limits, withheld
from aimv2.base.markdown import escape

UNITS: Mapping[Cost, str] = {"samples": "samples", "flops": "FLOPs", "seconds": "CPU seconds"}


def section(findings: Findings) -> Section | None:
    """Return the tables of convergence, that of samples first; None without a curve of a loss that arms share."""
    curves = Curves(findings.study, findings.evidence)
    tables = {cost: _table(findings, curves, cost) for cost in COSTS}
    tables = {cost: table for cost, table in tables.items() if table.rows}
    if not tables:
        return None
    blocks: list[Block] = [*tables.values()]
    if "seconds" not in tables:
        blocks.append(Paragraph("CPU time is not compared, because it was not measured in all runs."))
    if limits := metric_notes(findings, ""):
        blocks.append(Paragraph(f"Limits of all numbers: {escape('; '.join(limits))}."))
    first, *others = blocks
    curve = findings.evidence.curve.removeprefix("held_out_").replace("_", " ")
    more = [Section("FLOPs and CPU time", others)] if others else []
    return Section("Convergence", [*blocks_of("convergence", curve=curve), first, *more])


def _arms(findings: Findings) -> list[str]:
    """Return the arms with runs; none if their losses are not comparable."""
    present = set(findings.evidence.runs["arm"]) if findings.study.compares_curves else ()
    return [arm for arm in findings.study.conditions if arm in present]


def _table(findings: Findings, curves: Curves, cost: Cost) -> Table:
    """Return the table of a cost; without rows if no arm has it."""
    unit = UNITS[cost]
    columns = [f"{unit} to the baseline's loss at {100 * fraction:g} % of its budget" for fraction in FRACTIONS]
    columns += [f"lead at {100 * fraction:g} % [{unit}]" for fraction in FRACTIONS]
    table = Table(["arm", *columns], name=f"convergence_{cost}")
    limits = []
    for arm in _arms(findings):
        found = [curves.convergence(arm, cost, fraction) for fraction in FRACTIONS]
        known = [one for one in found if one is not None]
        if len(known) < len(FRACTIONS):
            continue
        hidden = withheld(findings, arm)
        reached = [hidden or _reached(one, cost) for one in known]
        ahead = [hidden or _lead(findings, arm, one, cost) for one in known]
        table.rows.append([findings.study.label(arm), *reached, *ahead])
        limits.append(arm_notes(findings, arm))
    return with_limits(table, limits)


def _reached(one: Convergence, cost: Cost) -> str:
    reached, form = one.reached, _form(cost)
    mean, count = reached.estimate, f"{reached.num_reached} of {reached.estimate.n} seeds"
    if not reached.num_reached:
        return stacked(f"> {mean.mean:{form}}", count)
    return stacked("≥ " * reached.is_lower_bound + mean.text(form), count)


def _lead(findings: Findings, arm: str, one: Convergence, cost: Cost) -> str:
    if arm == findings.study.baseline:
        return "baseline"
    if not one.lead.n:
        return "other seeds"
    return one.lead.text(f"+{_form(cost)}")


def _form(cost: Cost) -> str:
    return {"samples": ",.0f", "flops": ".2e", "seconds": ".2f"}[cost]
