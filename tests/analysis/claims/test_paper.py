from dataclasses import replace

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expectations import PROBE
from aimv2.ablations.paper_tables import paper_tables
from aimv2.ablations.request import Request
from aimv2.analysis.claims.paper import paper_section
from aimv2.analysis.document.model import Table
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.findings import Findings
from tests.helpers.documents import lines_of
from tests.helpers.evidence import evidence_of


def found(slug, effects):
    """Return findings of a study whose accuracies are 0.3 plus an effect."""
    study = STUDIES[slug]
    evidence = evidence_of(study, effects, spread=1e-5, shared=0, metrics=(PROBE,))
    evidence = replace(
        evidence,
        metrics=evidence.metrics.assign(value=evidence.metrics["value"] - 2.7),
        runs=evidence.runs.assign(run=evidence.runs["arm"] + evidence.runs["seed"].astype(str)),
    )
    return Findings(
        study=study, request=Request(study=study, cells=[], arguments=()), evidence=evidence, look=Look(1), ladder=None,
        sensitivity={}, comparisons={}, controls=(), verdicts={},
    )  # fmt: skip


def rows_of(section, name):
    table = next(block for block in section.blocks if isinstance(block, Table) and block.name == name)
    return table, {lines_of(row[0])[0]: [" / ".join(lines_of(cell)) for cell in row[1:]] for row in table.rows}


def test_published_values_have_their_difference_from_the_reference():
    _, rows = rows_of(paper_section({}), "table-9e")
    assert rows["width 512"][:3] == ["85.3 (-0.3)", "76.2 (-0.7)", "35.9 (-1.6)"]
    assert rows["width 1024 (reference)"][:3] == ["85.6", "76.9", "37.5"]


def test_our_means_stand_beside_with_their_differences():
    findings = {"decoder_width": found("decoder_width", {"width_050": -0.02})}
    table, rows = rows_of(paper_section(findings), "table-9e")
    assert table.columns[-1] == f"ours: {PROBE} (decoder_width)"
    assert rows["width 512"][3] == "28.0 [28.0, 28.0], n = 4 / Δ -2.0 [-2.0, -2.0]"
    assert rows["width 1024 (reference)"][3] == "30.0 [30.0, 30.0], n = 4"


def test_rows_without_a_counterpart_or_a_report_say_so():
    _, rows = rows_of(paper_section({}), "v1-table-3b")
    assert rows["checkerboard"][-1] == "no such arm"
    assert rows["spiral"][-1] == "not run yet"


def test_reports_at_other_budgets_do_not_stand_beside_the_paper():
    one = found("decoder_width", {})
    one = replace(one, study=replace(one.study, equal="flops"))
    _, rows = rows_of(paper_section({"decoder_width_equal_flops": one}), "table-9e")
    assert rows["width 512"][3] == "not run yet"


def test_every_table_of_the_paper_is_there():
    names = [block.name for block in paper_section({}).blocks if isinstance(block, Table)]
    assert names == [table.id for table in paper_tables()]
