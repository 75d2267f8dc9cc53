from dataclasses import replace

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.claims import CLAIMS, paper_tables
from aimv2.ablations.expectations import PROBE
from aimv2.ablations.recorded_runs import FILE as RECORDS
from aimv2.ablations.request import Request
from aimv2.analysis.claims.page import _paper_table, claims_document, document
from aimv2.analysis.document.pages import to_json
from aimv2.analysis.evidence.records import Records, pack
from aimv2.analysis.evidence.run_files import load
from aimv2.analysis.inference.intervals import Noise
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.claims import DECIDED
from aimv2.analysis.judgement.findings import Findings, findings_in
from aimv2.analysis.judgement.rules import Outcome, Word
from aimv2.analysis.judgement.verdicts import Verdict, verdicts
from aimv2.analysis.judgement.withheld import Reasons
from tests.helpers.documents import changed, lines_of
from tests.helpers.evidence import evidence_of, trusted
from tests.helpers.searches import parsed, request_of_search, typical, write_confirmation


def table_of(page, place=0):
    (table,) = page.sections[place].blocks
    return table


def row_of(page, claim, number=0):
    """Return a row of a claim by column, as text."""
    table = table_of(page)
    rows = [row for row in table.rows if lines_of(row[0])[0].strip("*") in (claim, f"{claim}, a part of the claim")]
    return {name: " / ".join(lines_of(cell)) for name, cell in zip(table.columns, rows[number], strict=True)}


def test_without_reports_every_claim_has_its_reason_or_its_price():
    page = document({})
    names = [lines_of(row[0])[0].strip("*") for row in table_of(page).rows]
    ((beyond,),) = (section.blocks for section in page.details if section.title == "Claims beyond reach")
    missing = {lines_of(row[0])[0].strip("*"): row[2] for row in beyond.rows}
    shown = {name for name in names if not name.endswith("a part of the claim")}
    assert {*shown, *missing} == {claim.id for claim in CLAIMS.values() if not claim.part_of}
    assert not shown & missing.keys()
    num_judged = sum(bool(claim.studies) and not claim.part_of for claim in CLAIMS.values())
    measured = sum(bool(claim.measured_by) for claim in CLAIMS.values() if not claim.part_of)
    reach = 51 - num_judged - measured
    assert (
        page.answer == f"Of 51 claims: {measured} *not testable*; {reach} *beyond reach*; {num_judged} *not run yet*."
    )
    assert len(missing) == reach
    assert missing["lit-zero-shot"] == CLAIMS["lit-zero-shot"].why_not
    planned = row_of(page, "beats-cappa-same-data")
    assert (planned["verdict"], planned["study"]) == ("**not run yet**", "objective")


def test_what_decides_a_contradicted_claim_is_counted_and_the_rest_is_in_the_numbers(findings):
    claim, verdict = next(iter(findings.verdicts.items()))
    against = verdict.comparisons[0]._replace(outcome=Outcome(Word.CONTRADICTED))
    both = (against, against._replace(outcome=Outcome(Word.SUPPORTED)))
    for word, is_one in ((Word.CONTRADICTED, True), (Word.UNDECIDED, False)):
        own = replace(findings, verdicts={claim: replace(verdict, word=word, comparisons=both)})
        page = document({"own": own})
        assert row_of(page, claim)["what decides"].endswith("and 1 more") != is_one
        (answer,) = (one for one in page.numbers["claims"][claim]["answers"] if one["report"] == "own")
        assert [one["outcome"] for one in answer["comparisons"]] == ["contradicted", "supported"]


def test_a_study_that_could_not_test_a_claim_has_no_row_beside_one_that_could(findings):
    claim = next(iter(findings.verdicts))
    untested = Verdict(Word.NOT_TESTABLE, ("not measured",), (), ())
    blind = replace(findings, verdicts={**findings.verdicts, claim: untested})
    both = {"able": findings, "blind": blind}
    assert "able" in row_of(document(both), claim)["study"]
    with pytest.raises(IndexError):
        row_of(document(both), claim, 1)
    assert "not measured" in row_of(document({"blind": blind}), claim)["verdict"]


def test_studies_with_the_verdict_of_all_come_first(findings):
    claim, verdict = next((name, one) for name, one in findings.verdicts.items() if one.word in DECIDED)
    undecided = replace(verdict, word=Word.UNDECIDED)
    other = replace(findings, verdicts={**findings.verdicts, claim: undecided})
    page = document({"first": other, "second": findings})
    assert "second" in row_of(page, claim)["study"]
    assert "first" in row_of(page, claim, 1)["study"]


def test_an_undecided_claim_has_the_price_of_the_seeds_that_it_lacks(findings):
    """Four seeds of all arms and controls took 90 s a run; then one arm has two, which took ten times as long."""
    study = findings.study
    evidence = evidence_of(study, {"positive_control": 1.0}, spread=0.05, metrics=study.deciding_metrics)
    evidence = replace(evidence, runs=evidence.runs.assign(seconds=90.0))
    reasons = trusted(study, evidence, noise=Noise(0.05))
    judged = verdicts(reasons, findings.config)
    own = replace(findings, reasons=reasons, verdicts=judged)
    page = document({"own": own})
    claim = next(iter(judged))
    seeds = page.numbers["claims"][claim]["answers"][0]["seeds_to_decide"]
    arms = len(study.conditions) + 1  # the untrained encoder
    hours = (seeds - 4) * arms * 90 / 3600
    assert row_of(page, claim)["verdict"] == (
        f"**undecided** / About {seeds:g} seeds decide it. / {(seeds - 4) * arms:,.0f} more runs, {hours:.1f} hours."
    )
    short = evidence.runs.drop(evidence.runs.index[evidence.runs["arm"] == "causal"][:2])
    short.loc[short["arm"] == "causal", "seconds"] = 900.0
    row = row_of(document({"own": changed(own, evidence=replace(evidence, runs=short))}), claim)
    hours = ((seeds - 4) * (arms - 1) * 90 + (seeds - 2) * 900) / 3600
    assert f"{(seeds - 4) * arms + 2:,.0f} more runs, {hours:.1f} hours." in row["verdict"]
    dearer = changed(own, evidence=replace(evidence, runs=evidence.runs.assign(seconds=180.0)))
    both = document({"dearer": dearer, "own": own})
    assert row_of(both, claim)["verdict"] == "**undecided**", "of two studies, the cheaper one counts"
    assert row_of(both, claim, 1)["verdict"] == row_of(page, claim)["verdict"]


@pytest.fixture
def reports_dir(request_of, evidence, tmp_path):
    """A folder with the records of one report and a folder without."""
    (tmp_path / "prefix_ratio").mkdir()
    (tmp_path / "prefix_ratio" / RECORDS).write_bytes(pack(Records(request_of, evidence, Look(2, 16))))
    (tmp_path / "verify").mkdir()
    return tmp_path


@pytest.mark.exhaustive
@pytest.mark.parametrize("slug", ["prefix_ratio", "scaling"])
def test_searches_are_no_evidence_on_claims(reports_dir, tiny, tmp_path_factory, slug):
    study, before = STUDIES[slug], to_json(claims_document(reports_dir))
    request, runs_dir = request_of_search(tiny, study=study), tmp_path_factory.mktemp("runs")
    write_confirmation(request, runs_dir)
    records = Records(request, load(request.cells, runs_dir), Look(1, 16), parsed(typical(study=slug)))
    (reports_dir / request.folder).mkdir()
    (reports_dir / request.folder / RECORDS).write_bytes(pack(records))
    assert findings_in(reports_dir, request.folder).search == records.search
    assert to_json(claims_document(reports_dir)) == before


def with_accuracies(slug, effects):
    """Return findings of a study whose accuracies are 0.3 plus an effect."""
    study = STUDIES[slug]
    evidence = evidence_of(study, effects, spread=1e-5, shared=0, metrics=(PROBE,))
    evidence = replace(
        evidence,
        metrics=evidence.metrics.assign(value=evidence.metrics["value"] - 2.7),
        runs=evidence.runs.assign(run=evidence.runs["arm"] + evidence.runs["seed"].astype(str)),
    )
    return Findings(Request(study=study, cells=[], arguments=()), Look(1, 16), None, Reasons(study, evidence), {}, {})


def rows_of(findings, name):
    (table,) = (_paper_table(table, findings) for table in paper_tables() if table.id == name)
    return table, {lines_of(row[0])[0]: [" / ".join(lines_of(cell)) for cell in row[1:]] for row in table.rows}


def test_reports_at_other_budgets_do_not_stand_beside_the_paper():
    one = with_accuracies("decoder_width", {})
    one = changed(one, study=replace(one.study, equal="flops"))
    _, rows = rows_of({"decoder_width_equal_flops": one}, "table-9e")
    assert rows["width 512"][3] == "not run yet"
