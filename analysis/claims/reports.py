"""The page of the paper's claims, from the records beside the reports of all studies."""

from pathlib import Path

from aimv2.request.resolve import with_attention

from ablations.catalogue import STUDIES
from aimv2.config.recipes.scales import demo
from analysis.claims import page
from analysis.document.model import Document
from analysis.evidence.records import FILE, Records, read_records, recorded_names
from analysis.judgement.findings import Findings, baseline_of, judge
from analysis.judgement.sensitivity import nearest_ladder, read_sensitivity


def findings_of(records: Records, reports_dir: Path) -> Findings:
    """Return what records show, with the sensitivity of these reports. Raises UsageError if it cannot be read."""
    sensitivity = read_sensitivity(reports_dir, baseline_of(records.request))
    return judge(records.request, records.evidence, records.look, sensitivity, records.search)


def findings_in(reports_dir: Path, name: str) -> Findings:
    """Return what the records of a report show.

    Raises:
        UsageError: there are none, or they or a sensitivity cannot be read.
    """
    return findings_of(read_records(reports_dir / name / FILE, STUDIES), reports_dir)


def claims_document(reports_dir: Path) -> Document:
    """Return the page of all claims; errors as in ``findings_in``.

    A search is no evidence: it was not planned for claims, and another scale has another winner.
    """
    found = {name: findings_in(reports_dir, name) for name in recorded_names(reports_dir)}
    studies = {name: one for name, one in found.items() if not one.study.is_search}
    return page.document(studies, nearest_ladder(reports_dir, with_attention(demo())))
