"""The index of reports: every claim with its verdict, and a line for every study."""

from aimv2.ablations.claims import CLAIMS
from aimv2.analysis.claims.index import document
from aimv2.analysis.document.model import lines_of
from tests.helpers.documents import tables

WHOLE = [claim.id for claim in CLAIMS.values() if not claim.part_of]


def figures_of(page):
    return {figure.name: figure.data for figure in page.figures()}


def test_without_reports_every_claim_is_a_cell_and_nothing_is_judged():
    page = document({})
    cells = figures_of(page)["claims"]
    assert list(cells["claim"]) == WHOLE
    assert set(cells["verdict"]) == {"not run yet", "not testable", "beyond reach"}
    assert dict(zip(cells["claim"], cells["group"], strict=True)) == {name: CLAIMS[name].group for name in WHOLE}
    assert "forest" not in figures_of(page)


def test_a_report_gives_its_claims_differences_in_margins_and_a_line(findings):
    page = document({"prefix_ratio": findings})
    found = figures_of(page)
    (row,) = (row for row in found["claims"].to_dict("records") if row["claim"] == "prefix-beats-causal")
    assert row["verdict"] == page.numbers["claims"]["prefix-beats-causal"]
    assert "prefix_ratio: 4 seeds at test" in row["note"]
    verdict = findings.verdicts["prefix-beats-causal"]
    first = found["forest"].to_dict("records")[0]
    margin = findings.study.margin_of(verdict.deciding[0].expected)
    assert first["mean"] == verdict.deciding[0].difference.mean / margin
    assert first["low"] == verdict.deciding[0].difference.low / margin
    again = document({"prefix_ratio": findings, "the same": findings})
    costs = [one.sections[1].blocks[1].text for one in (page, again)]
    assert costs[0].startswith(
        f"All studies together: {findings.evidence.runs['run'].nunique()} runs, each counted once"
    )
    assert costs[0].endswith("; none failed.")
    assert costs[0] == costs[1], "shared runs count once"
    (table,) = tables(page.sections[1]).values()
    ((link, question, *_),) = [[" ".join(lines_of(cell)) for cell in row] for row in table.rows]
    assert (link, question) == ("[prefix_ratio](prefix_ratio/report.md)", findings.study.question)
