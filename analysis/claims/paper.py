"""The paper's ablation tables beside our estimates of the same arms."""

import math
from collections.abc import Mapping

from ablations.expectations import PROBE
from ablations.paper_tables import PaperTable, Row, paper_tables
from analysis.document.model import Block, Cell, Paragraph, Section, Table
from analysis.inference.intervals import Estimate, with_interval
from analysis.judgement.findings import Findings
from analysis.judgement.sensitivity import Ladder
from analysis.sections.words import runs_of

MARK = "≈"


def paper_section(findings: Mapping[str, Findings], ladder: Ladder | None) -> Section:
    """Return the published values, each with its difference from the row that the paper uses, and ours beside them.

    Args:
        findings: those of all reports, by folder.
        ladder: the sensitivity study whose noise marks published differences; None marks none.
    """
    noise = _noise(ladder)
    blocks: list[Block] = [Paragraph(_introduction(noise))]
    blocks += [_table(table, _own(table, findings), noise) for table in paper_tables()]
    return Section("The paper's tables beside ours", blocks, is_folded=True)


def _own(table: PaperTable, findings: Mapping[str, Findings]) -> Findings | None:
    """Return the first report of the table's study at equal samples, which the paper's tables have."""
    own = (one for one in findings.values() if one.study.slug == table.study and one.study.equal == "samples")
    return next(own, None)


def _noise(ladder: Ladder | None) -> float:
    """Return the standard deviation, in points, of the difference of two single runs of our probe; NaN if unknown."""
    seen = ladder.metrics.get(PROBE) if ladder else None
    return math.nan if seen is None else 100 * seen.paired_sd


def _introduction(noise: float) -> str:
    text = (
        "Published numbers are single runs, in per cent, at another scale and on other data than ours. In brackets is"
        " the difference from the reference row in points. Ours are means over seeds with 95 % intervals."
    )
    if math.isnan(noise):
        return f"{text} The noise of our probe was not measured, so no published difference is marked."
    return (
        f"{text} {MARK} marks published differences below {noise:.2f} points. That is the standard deviation, over"
        f" seeds, of the difference of two single runs in our {PROBE}, the metric that is most like theirs (sensitivity"
        " study). The paper does not give its own, which may be smaller with larger models and test sets; the mark says"
        " that such a difference of single runs would show nothing here."
    )


def _table(table: PaperTable, own: Findings | None, noise: float) -> Table:
    claims = ", ".join(table.claims)
    shown = Table(["condition", *table.metrics], name=table.id, caption=f"{table.title}. Claims: {claims}.")
    if table.study:
        shown.columns.append(f"ours: {PROBE} ({table.study})")
    for row in table.rows:
        is_reference = row.condition == table.reference
        published = [
            Cell((_with_difference(value, difference, noise, is_reference=is_reference),), value=value)
            for value, difference in zip(row.values, table.differences[row.condition], strict=True)
        ]
        ours = [_ours(row, table, own)] if table.study else []
        shown.rows.append([f"{row.condition} (reference)" if is_reference else row.condition, *published, *ours])
    return shown


def _with_difference(value: float, difference: float, noise: float, *, is_reference: bool) -> str:
    if is_reference:
        return f"{value:g}"
    mark = f" {MARK}" if abs(difference) < noise else ""
    return f"{value:g} ({difference:+.1f}){mark}"


def _ours(row: Row, table: PaperTable, own: Findings | None) -> str | Cell:
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
    return Cell(tuple(lines), runs_of(own.evidence, row.arm, reference), value=100 * mean.mean)


def _points(one: Estimate, form: str) -> str:
    return with_interval(100 * one.mean, 100 * one.low, 100 * one.high, form)
