from dataclasses import replace

import pandas as pd
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


def test_detected_differences_leave_out_arms_of_which_a_run_failed_and_name_controls(findings):
    assert {("pixel_loss_0.5", "fixed_75"), ("pixel_loss_0.5", "positive_control")} <= {
        (metric, arm) for metric, arm, _ in metrics.detected(findings)
    }
    assert not any(metric == "content_loss" or arm == "fixed_25" for metric, arm, _ in metrics.detected(findings))
    for arm, lost in (("fixed_75", {"fixed_75"}), ("uniform", set(findings.study.conditions))):
        missing = pd.DataFrame([(arm, 4, "", "not finite", True)], columns=MISSING_COLUMNS)
        found = judged_again(findings, replace(findings.evidence, missing=missing))
        assert not {arm for _, arm, _ in metrics.detected(found)} & lost


def test_warnings_name_metric_arms_and_number_of_runs(findings):
    edge, table = "the chosen learning rate is the largest of the grid", findings.evidence.metrics.copy()
    is_probe, seeds = table["metric"] == "probe_digits", table["seed"]
    table.loc[is_probe & (table["arm"] == "causal") & (seeds < 3), "warning"] = edge
    table.loc[is_probe & (table["arm"] == "untrained") & (seeds == 0), "warning"] = edge
    found = metrics.section(judged_again(findings, replace(findings.evidence, metrics=table)))
    assert f"probe\\_digits: {edge} ({CAUSAL}, 3 runs; untrained, 1 run)." in text_of(found)
    assert "doubtful" not in text_of(metrics.section(findings))


def test_metrics_of_a_search_that_compares_nothing_are_those_of_the_baseline(tiny, tmp_path):
    request = request_of_search(tiny, has_winner=False)
    assert (
        metrics.section(judge(request, evidence_from([], []), Look(1, 16), {}, parsed(won_by_the_baseline()))) is None
    )
    write_confirmation(request, tmp_path)
    found = judge(request, load(request.cells, tmp_path), Look(1, 16), {}, parsed(won_by_the_baseline()))
    values = found.evidence.value("content_loss", "uniform")
    low, high = stats.t.interval(0.95, 3, values.mean(), values.std(ddof=1) / 2)
    section = metrics.section(found)
    table = tables(section)["metrics"]
    assert f"{values.mean():.3f} [{low:.3f}, {high:.3f}]" in table.rows[0][1]
    assert table.columns == ["metric", "uniform on 1..I-1"]
    assert "Δ" not in str(table.rows)
    assert "exploratory" not in text_of(section)


DIFFERENCE, DETECTABLE = "difference [interval]", "minimum detectable difference (80 % power)"


def primary_rows(findings):
    return by_row(tables(metrics.arms_section(findings))["arms"])


def test_arm_with_a_failed_run_is_not_judged(findings):
    missing = pd.DataFrame([("causal", 4, "", "not finite", True)], columns=MISSING_COLUMNS)
    found = judged_again(findings, replace(findings.evidence, missing=missing))
    assert next(iter(rows_of(found).values()))[CAUSAL][1] == "Δ withheld: a run failed"
    rows = primary_rows(found)
    assert rows[CAUSAL]["observed"] == ("not judged", f"1 of 5 runs of {CAUSAL} failed")
    assert rows[CAUSAL][DIFFERENCE] == ("withheld: a run failed",)
    assert rows[CAUSAL][DETECTABLE] == ("",)
