import re
from dataclasses import replace

import pandas as pd
import pytest
from scipy import stats

from aimv2.analysis.evidence.run_files import load
from aimv2.analysis.evidence.tables import MISSING_COLUMNS
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.findings import judge
from aimv2.analysis.sections import metrics
from tests.helpers.documents import by_row, judged_again, tables, text_of
from tests.helpers.evidence import evidence_from
from tests.helpers.searches import parsed, request_of_search, won_by_the_baseline, write_confirmation

CAUSAL = "causal (prefix of 1 patch)"


def rows_of(findings):
    return by_row(tables(metrics.section(findings))["metrics"])


def test_metric_that_is_not_applicable_is_never_a_number(findings):
    rows = rows_of(findings)
    assert rows["held-out caption bits"][CAUSAL] == ("not applicable",)
    assert rows["held-out caption bits"]["uniform on 1..I-1"] == ("1.500 (no interval)",)
    assert not any("recall" in name for name in rows), "a metric of no arm has no row"


def test_difference_of_an_arm_with_a_failed_run_is_withheld(findings):
    missing = pd.DataFrame([("causal", 4, "", "not finite", True)], columns=MISSING_COLUMNS)
    rows = rows_of(judged_again(findings, replace(findings.evidence, missing=missing)))
    assert next(iter(rows.values()))[CAUSAL][1] == "Δ withheld: a run failed"


def test_detected_differences_are_listed_as_exploratory(findings):
    text = text_of(metrics.section(findings)).replace("\\", "")
    assert "They are exploratory" in text
    shown = re.search(r"causal_content_loss: fixed at 75 % is above the baseline by ([\d.]+) nats/token", text)
    assert float(shown[1]) == pytest.approx(0.5, abs=0.02)


def test_baseline_of_a_search_is_shown_by_itself(tiny, tmp_path):
    request = request_of_search(tiny, has_winner=False)
    write_confirmation(request, tmp_path)
    found = judge(request, load(request.cells, tmp_path), Look(1), {}, parsed(won_by_the_baseline()))
    section = metrics.of_baseline(found)
    values = found.evidence.value("content_loss", "uniform")
    low, high = stats.t.interval(0.95, 3, values.mean(), values.std(ddof=1) / 2)
    text = text_of(section)
    assert "with seeds 100, 101, 102, 103, which no trial has seen" in text
    assert "The held-out loss of content words is measured on some pairs." in text
    table = tables(section)["metrics"]
    assert f"{values.mean():.3f} [{low:.3f}, {high:.3f}]" in table.rows[0][1]
    assert table.columns == ["metric", "uniform on 1..I-1"]
    assert "Δ" not in str(table.rows)


def test_baseline_of_one_seed_has_no_interval_and_without_runs_there_is_no_section(tiny, tmp_path):
    request = request_of_search(tiny, has_winner=False, seeds=[100])
    nothing = judge(request, evidence_from([], []), Look(1), {}, parsed(won_by_the_baseline()))
    assert metrics.of_baseline(nothing) is None
    write_confirmation(request, tmp_path)
    found = judge(request, load(request.cells, tmp_path), Look(1), {}, parsed(won_by_the_baseline()))
    assert "with seed 100, which" in text_of(metrics.of_baseline(found))
