"""Records of others in reports: a page of their own, and a section that stands apart from all own results."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aimv2.ablations.catalogue import STUDIES
from aimv2.analysis.document.model import Document, Paragraph, Section, Table
from aimv2.analysis.evidence.others import OthersRecords, others_names, read_others
from aimv2.analysis.judgement.findings import findings_of
from aimv2.analysis.sections.study import document
from aimv2.analysis.sections.tables import seeds_per_arm, seen, span
from aimv2.base.errors import escape

APART = (
    "Runs that others have executed and that `python analysis/report.py add` has checked. Their verdicts are of these"
    " records alone: no other table, verdict or interval of these reports has a run of them. `python sweeps/manage.py"
    " replay RUN records=records/NAME` executes a run here and compares it with its record."
)


def others_in(records_dir: Path) -> list[OthersRecords]:
    """Return all records of others; errors as in ``read_others``."""
    return [read_others(records_dir, name, STUDIES) for name in others_names(records_dir)]


def others_document(others: OthersRecords, reports_dir: Path) -> Document:
    """Return the report on records of others, which says that they are."""
    found = document(findings_of(others.records, reports_dir), {})
    subtitle = found.subtitle.replace("](../", "](../../", 1)
    return replace(found, subtitle=f"{subtitle} · **records of others**, {escape(others.described)}")


def others_section(every: Sequence[OthersRecords], reports_dir: Path, to_pages: str) -> list[Section]:
    """Return the section of a page on records of others; none if there are none.

    Args:
        reports_dir: has the reports whose sensitivity counts.
        to_pages: the path from the page to their pages, with a slash.
    """
    table = Table(
        ["records of others", "replayed here", "verdicts of these records alone", "seeds", "runs", "hardware"]
    )
    table = replace(table, name="others")
    for one in every:
        found = findings_of(one.records, reports_dir)
        words = "; ".join(f"{claim}: {verdict.word}" for claim, verdict in found.verdicts.items())
        evidence = one.records.evidence
        link = f"[{one.name}]({to_pages}{one.name}/report.md)"
        counted = (span(*seeds_per_arm(evidence)), str(len(evidence.runs)))
        table.rows.append([link, escape(one.described), escape(words) or "none", *counted, seen(evidence, "hardware")])
    return [Section("Records of others", [Paragraph(APART), table])] if every else []
