import pytest
from aimv2.base.errors import UsageError
from analysis.evidence.load import load
from analysis.evidence.records import FILE, Records, pack

from ablations.catalogue import STUDIES
from ablations.request import Request
from analysis.claims.reports import claims_document, findings_in
from analysis.document.data import to_json
from analysis.inference.looks import Look
from tests.helpers.searches import parsed, request_of_search, typical, write_confirmation


@pytest.fixture
def reports_dir(request_of, evidence, tmp_path):
    """A folder with the records of one report and a folder without."""
    (tmp_path / "prefix_ratio").mkdir()
    (tmp_path / "prefix_ratio" / FILE).write_bytes(pack(Records(request_of, evidence, Look(2))))
    (tmp_path / "verify").mkdir()
    return tmp_path


def test_records_give_the_findings_of_the_report(reports_dir, evidence):
    found = findings_in(reports_dir, "prefix_ratio")
    assert isinstance(found.request, Request)
    assert found.look.number == 2
    assert found.verdicts
    assert len(found.evidence.runs) == len(evidence.runs)


def test_the_page_is_made_of_all_records(reports_dir):
    """No sensitivity was measured at the scale of these runs, so no claim is decided, and the page says so."""
    page = claims_document(reports_dir)
    answers = page.numbers["claims"]["uniform-prefix-length"]["answers"]
    reported = [one for one in answers if one["report"]]
    assert [(one["study"], one["report"], str(one["verdict"])) for one in reported] == [
        ("prefix_ratio", "prefix_ratio", "not testable")
    ]
    assert "was not measured" in " ".join(reported[0]["qualifications"])
    assert reported[0]["runs"]


@pytest.mark.parametrize("slug", ["prefix_ratio", "scaling"])
def test_searches_are_no_evidence_on_claims(reports_dir, tiny, tmp_path_factory, slug):
    """That of the same study, and of one that measures a claim without judging it."""
    study, before = STUDIES[slug], to_json(claims_document(reports_dir))
    request, runs_dir = request_of_search(tiny, study=study), tmp_path_factory.mktemp("runs")
    write_confirmation(request, runs_dir)
    records = Records(request, load(request.cells, runs_dir), Look(1), parsed(typical(study=slug)))
    (reports_dir / request.folder).mkdir()
    (reports_dir / request.folder / FILE).write_bytes(pack(records))
    assert findings_in(reports_dir, request.folder).search == records.search
    assert to_json(claims_document(reports_dir)) == before


def test_a_folder_without_records_is_named(reports_dir):
    with pytest.raises(UsageError, match="cannot be read"):
        findings_in(reports_dir, "verify")
