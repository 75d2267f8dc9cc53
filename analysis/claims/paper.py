"""The paper's ablation tables beside our estimates of the same arms."""

from collections.abc import Mapping

from aimv2.ablations.expectations import PROBE
from aimv2.ablations.paper_tables import PaperTable, Row, paper_tables
from aimv2.analysis.document.model import Paragraph, Section, Table, stacked
from aimv2.analysis.inference.intervals import Estimate, with_interval
from aimv2.analysis.judgement.findings import Findings

INTRODUCTION = (
    "Published numbers are single runs, in per cent, at another scale and on other data than ours. In brackets is the"
    " difference from the reference row in points. Ours are means over seeds with 95 % intervals."
)


def paper_section(findings: Mapping[str, Findings]) -> Section:
    """Return the published values, each with its difference from the row that the paper uses, and ours beside them.

    Args:
        findings: those of all reports, by folder.
    """
    tables = [_table(table, _own(table, findings)) for table in paper_tables()]
    return Section("The paper's tables beside ours", [Paragraph(INTRODUCTION), *tables])


def _own(table: PaperTable, findings: Mapping[str, Findings]) -> Findings | None:
    """Return the first report of the table's study at equal samples, which the paper's tables have."""
    own = (one for one in findings.values() if one.study.slug == table.study and one.study.equal == "samples")
    return next(own, None)


def _table(table: PaperTable, own: Findings | None) -> Table:
    claims = ", ".join(table.claims)
    shown = Table(["condition", *table.metrics], name=table.id, caption=f"{table.title}. Claims: {claims}.")
    if table.study:
        shown.columns.append(f"ours: {PROBE} ({table.study})")
    for row in table.rows:
        is_reference = row.condition == table.reference
        published = [
            f"{value:g}" if is_reference else f"{value:g} ({difference:+z.1f})"
            for value, difference in zip(row.values, table.differences[row.condition], strict=True)
        ]
        ours = [_ours(row, table, own)] if table.study else []
        shown.rows.append([f"{row.condition} (reference)" if is_reference else row.condition, *published, *ours])
    return shown


def _ours(row: Row, table: PaperTable, own: Findings | None) -> str:
    """Return our mean and difference from the arm of the reference row, in per cent and points."""
    if not row.arm:
        return "no such arm"
    if own is None:
        return "not run yet"
    mean = own.evidence.mean(PROBE, row.arm)
    if not mean.n:
        return "not measured"
    lines = [f"{_points(mean, '.1f')}, n = {mean.n}"]
    reference = next(one.arm for one in table.rows if one.condition == table.reference)
    if reference and row.arm != reference:
        difference = own.differences.of(row.arm, PROBE, reference, PROBE)
        lines.append(f"Δ {_points(difference, '+.1f')}")
    return stacked(*lines)


def _points(one: Estimate, form: str) -> str:
    return with_interval(100 * one.mean, 100 * one.low, 100 * one.high, form)
