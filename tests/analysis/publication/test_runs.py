from dataclasses import replace

import pandas as pd
from analysis.evidence.load import MISSING_COLUMNS

from analysis.publication import runs
from tests.helpers.documents import judged_again, tables, text_of


def test_each_run_has_a_row_with_its_name_and_value(findings):
    table = tables(runs.section(findings))["runs"]
    assert [row[0].runs for row in table.rows] == [(name,) for name in findings.evidence.runs["run"]]
    row = next(row for row in table.rows if row[1] == "causal (prefix of 1 patch)" and row[2] == "2")
    assert row[3].value == findings.evidence.value("content_loss", "causal")[2]
    assert "No run is missing" in text_of(runs.section(findings))


def test_missing_runs_are_listed_with_their_reason_escaped(findings):
    missing = pd.DataFrame([("causal", 4, "v2-0", "loss | <b>", True)], columns=MISSING_COLUMNS)
    section = runs.section(judged_again(findings, replace(findings.evidence, missing=missing)))
    assert tables(section)["missing"].rows == [["causal", "4", "v2-0", r"loss \| \<b\>"]]
    assert "No run is missing" not in text_of(section)
