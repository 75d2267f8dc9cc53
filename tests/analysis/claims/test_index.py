"""The index of reports: every claim with its verdict, and a line for every study."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.expectations import expect
from aimv2.analysis.claims.index import FAR, Row, claimed_sign, document, forest
from aimv2.analysis.document.model import VERDICTS
from aimv2.analysis.document.style import style
from aimv2.analysis.inference.intervals import Estimate
from aimv2.analysis.judgement.claims import WORDS
from aimv2.analysis.judgement.rules import Word, outcome
from aimv2.definitions.metrics import lower_is_better
from tests.helpers.documents import changed, lines_of, tables

WHOLE = [claim.id for claim in CLAIMS.values() if not claim.part_of]


def figures_of(page):
    return {figure.name: figure.data for figure in page.figures()}


def test_without_reports_every_claim_is_in_the_table_and_nothing_is_judged():
    page = document({})
    table = tables(page.sections[0])["claims"]
    cells = [(row[0], name) for row in table.rows for cell in row[1:] for name in lines_of(cell) if name]
    assert sorted(cells) == sorted((CLAIMS[name].group, name) for name in WHOLE)
    assert [column.partition(" ")[2] for column in table.columns[1:]] == ["not testable", "beyond reach", "not run yet"]
    assert "forest" not in figures_of(page)


def test_every_verdict_has_a_look_of_its_own():
    assert set(VERDICTS) == set(WORDS)
    assert len({look.color for look in VERDICTS.values()}) == len(WORDS)


def test_differences_beyond_the_scale_end_at_its_edge():
    rows = [
        Row("near", "undecided", "supported", "0.3 points", "a minus b: 0.1", 2.0, 1.0, 3.0),
        Row("far", "undecided", "undecided", "", "c minus d: 0.2", 9.0, -50.0, math.inf),
    ]
    with style():
        figure, data = forest(rows)
    (axis,) = figure.axes
    ends = [list(line.get_xdata()) for line in axis.lines if len(set(line.get_ydata())) == 1]
    assert [1.0, 3.0] in ends
    assert [-FAR, FAR] in ends
    texts = [text.get_text() for text in axis.texts]
    assert texts == ["a minus b: 0.1", "near: undecided; paper: 0.3 points", "c minus d: 0.2", "far: undecided"]
    assert [row["mean"] for row in data.to_dict("records")] == [2.0, 9.0]


def test_a_report_gives_its_claims_differences_in_margins_and_a_line(findings):
    page = document({"prefix_ratio": findings})
    found = figures_of(page)
    verdict_of = "prefix-beats-causal"
    verdict = findings.verdicts[verdict_of]
    first = found["forest"].to_dict("records")[0]
    margin = findings.study.margin_of(verdict.comparisons[0].expected)
    assert first["mean"] == verdict.comparisons[0].difference.mean / margin
    assert first["low"] == verdict.comparisons[0].difference.low / margin
    judged = verdict.comparisons[0]
    flipped = judged._replace(expected=replace(judged.expected, relation="better"))
    other = replace(verdict, comparisons=(flipped,))
    shown = document({"prefix_ratio": replace(findings, verdicts={**findings.verdicts, verdict_of: other})})
    turned = figures_of(shown)["forest"].to_dict("records")[0]
    assert (turned["mean"], turned["low"], turned["high"]) == (-first["mean"], -first["high"], -first["low"])
    (table,) = tables(page.sections[1]).values()
    ((link, question, *_),) = [[" ".join(lines_of(cell)) for cell in row] for row in table.rows]
    assert (link, question) == ("[prefix_ratio](prefix_ratio/report.md)", findings.study.question)


@pytest.mark.parametrize("metric", ["content_loss", "probe_object"])
@pytest.mark.parametrize("relation", ["better", "worse", "far worse", "not better", "not worse"])
def test_a_large_difference_on_the_side_of_the_claim_supports_it(relation, metric):
    (expected,) = expect("one", relation, than="other", metric=metric, why="")

    def judged(mean):
        return outcome(relation, Estimate(mean, 0.01, 30, 16), 0.1, lower_is_better=lower_is_better(metric)).word

    sign = claimed_sign(expected)
    assert (judged(sign), judged(-sign)) == (Word.SUPPORTED, Word.CONTRADICTED)


def test_runs_that_studies_share_cost_once_and_failed_ones_are_counted(findings):
    """Oracle: a loop over the rows, which forgets no run and takes none twice."""
    evidence = findings.evidence
    lost = {"arm": "causal", "seed": 9, "run": "v2-lost", "reason": "out of memory", "has_failed": True}
    waiting = lost | {"run": "v2-waiting", "has_failed": False}
    missing = pd.DataFrame([lost, waiting])
    other = changed(findings, evidence=replace(evidence, missing=missing))
    seconds, flops = {}, {}
    for row in evidence.runs.to_dict("records"):
        seconds[row["run"]], flops[row["run"]] = row["seconds"], row["train_flops"]
    expected = (
        f"All studies together: {len(seconds):,} runs, each counted once, of {sum(seconds.values()) / 3600:.1f}"
        f" hours and {sum(flops.values()):.2g} training FLOPs;"
    )
    for studies, failed in (({"one": findings}, "none"), ({"one": findings, "other": other}, "1")):
        assert document(studies).sections[1].blocks[1].text == f"{expected} {failed} failed."
