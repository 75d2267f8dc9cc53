import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ablations.expectations import PROBE, expect
from analysis.inference.intervals import detectable_difference
from analysis.judgement.compare import primary_comparisons
from analysis.judgement.controls import check_controls
from analysis.load import MISSING_COLUMNS
from analysis.sections.tables import cost_table, margins_note, metrics_table, primary_table, setup_table
from tests.helpers.evidence import evidence_of
from tests.helpers.specimen import STUDY


def test_metric_that_is_not_applicable_is_never_a_number(evidence):
    table = metrics_table(STUDY, evidence)
    row = next(row for row in table.rows if "caption bits" in row[0][0])
    shown = dict(zip(table.columns, row, strict=True))
    assert shown["causal (prefix of 1 patch)"] == "not applicable"
    assert shown["uniform on 1..I-1"] == ["1.500 (no interval)"]
    assert not any("recall" in row[0][0] for row in table.rows), "a metric of no arm has no row"


def test_primary_table_gives_expectation_observation_difference_power_and_speed(cells, evidence):
    comparisons, controls = primary_comparisons(STUDY, cells, evidence), check_controls(STUDY, evidence)
    rows = {row[0]: row for row in primary_table(STUDY, evidence, comparisons, controls, is_sensitive=True).rows}
    assert rows["uniform on 1..I-1"][1:3] == ["", ""]
    assert rows["uniform on 1..I-1"][4] == "baseline"
    assert rows["fixed at 75 %"][1:3] == ["open", "worse"]
    assert rows["fixed at 25 %"][1:3] == ["open", "inconclusive"]
    assert rows["causal (prefix of 1 patch)"][1:3] == ["worse", ["better", "contradicted"]]
    assert rows["the baseline with other seeds"][1:3] == ["no difference", "passed"]
    assert float(rows["fixed at 75 %"][4].split()[0]) == pytest.approx(0.5, abs=0.02)
    estimate = comparisons["fixed_75"].difference
    assert rows["fixed at 75 %"][5] == [estimate.bounds("+.4f"), "95 %, n = 4, pooled error, covers seeds"]
    assert float(rows["fixed at 75 %"][6]) == pytest.approx(detectable_difference(estimate), abs=1e-4)
    assert rows["fixed at 75 %"][7] == ">16 (0 of 4 seeds reach it)", "censored at the budget"
    # Better by 0.4 of the 2 that its curve falls over 16 samples: it arrives after 80 % of them.
    reached = re.match(r"([\d.]+) \(4 of 4 seeds reach it\)", rows["causal (prefix of 1 patch)"][7])
    assert float(reached[1]) == pytest.approx(0.8 * 16, abs=0.6)
    assert "untrained" not in rows


def test_steps_without_a_held_out_loss_do_not_change_the_samples_to_reach(cells, evidence):
    between = evidence.curves.assign(samples=evidence.curves["samples"] + 2, held_out_caption_loss=np.nan)
    more = replace(evidence, curves=pd.concat([evidence.curves, between]))
    comparisons, controls = primary_comparisons(STUDY, cells, evidence), check_controls(STUDY, evidence)
    tables = [primary_table(STUDY, some, comparisons, controls, is_sensitive=True) for some in (evidence, more)]
    assert tables[0] == tables[1]


def test_primary_table_judges_no_expectation_unless_controls_passed(cells):
    evidence = evidence_of(STUDY, {"causal": -0.4, "positive_control": 0.0}, spread=0.01)
    comparisons, controls = primary_comparisons(STUDY, cells, evidence), check_controls(STUDY, evidence)
    rows = {row[0]: row for row in primary_table(STUDY, evidence, comparisons, controls, is_sensitive=True).rows}
    assert rows["causal (prefix of 1 patch)"][1:3] == ["worse", ["better", "not judged: a control did not pass"]]
    assert rows["shuffled captions"][1:3] == ["worse", "inconclusive"]


def test_primary_table_judges_no_expectation_by_a_metric_that_is_not_sensitive(cells):
    evidence = evidence_of(STUDY, {"causal": -0.4, "positive_control": 1.0}, spread=0.003, shared=0)
    comparisons, controls = primary_comparisons(STUDY, cells, evidence), check_controls(STUDY, evidence)
    table = primary_table(STUDY, evidence, comparisons, controls, is_sensitive=False)
    rows = {row[0]: row for row in table.rows}
    assert rows["causal (prefix of 1 patch)"][2] == ["better", "not judged: the metric is not sensitive"]
    assert rows["fixed at 25 %"][2] in ("equivalent", "inconclusive")


def test_arm_with_a_failed_run_is_not_judged(cells, evidence):
    missing = pd.DataFrame([("causal", 4, "", "not finite", True)], columns=MISSING_COLUMNS)
    some = replace(evidence, missing=missing)
    comparisons, controls = primary_comparisons(STUDY, cells, some), check_controls(STUDY, some)
    rows = {row[0]: row for row in primary_table(STUDY, some, comparisons, controls, is_sensitive=True).rows}
    note = "1 of 5 runs of causal (prefix of 1 patch) failed"
    assert rows["causal (prefix of 1 patch)"][2] == ["not judged", note]
    assert rows["causal (prefix of 1 patch)"][4:7] == ["withheld: a run failed", "", ""]
    assert rows["causal (prefix of 1 patch)"][7] == f"not judged: {note}"
    shown = dict(zip(metrics_table(STUDY, some).columns, metrics_table(STUDY, some).rows[0], strict=True))
    assert shown["causal (prefix of 1 patch)"][1] == "Δ withheld: a run failed"


def test_mean_of_samples_counts_the_budget_of_runs_that_do_not_get_there(cells, evidence):
    """Seed 0 is moved above its baseline; the other three take the same samples as before."""
    curves = evidence.curves.copy()
    curves.loc[(curves["arm"] == "causal") & (curves["seed"] == 0), "held_out_caption_loss"] += 5
    some = replace(evidence, curves=curves)
    comparisons, controls = primary_comparisons(STUDY, cells, some), check_controls(STUDY, some)
    rows = {row[0]: row for row in primary_table(STUDY, some, comparisons, controls, is_sensitive=True).rows}
    reached = re.match(r"≥ ([\d.]+) \(3 of 4 seeds reach it\)", rows["causal (prefix of 1 patch)"][7])
    assert float(reached[1]) == pytest.approx((16 + 3 * 0.8 * 16) / 4, abs=0.6)


def test_metrics_table_has_the_untrained_encoder(evidence):
    table = metrics_table(STUDY, evidence)
    assert table.columns[-1] == "untrained"
    assert len(table.rows) == 6


def test_setup_table_counts_finished_runs_and_names_hardware(cells, evidence):
    rows = dict(setup_table(STUDY, cells, evidence).rows)
    assert rows["runs"] == "32 of 32 finished"
    assert rows["hardware"] == "a test; threads per run: 1; float32"


@pytest.mark.parametrize(
    ("equal", "marked"),
    [("samples", []), ("flops", ["causal (prefix of 1 patch)"]), ("seconds", ["fixed at 25 %"])],
)
def test_cost_table_marks_an_arm_that_misses_what_the_study_holds_equal(evidence, equal, marked):
    """One arm has half more FLOPs, another half more CPU seconds; all have their samples."""
    runs = evidence.runs.copy()
    runs.loc[runs["arm"] == "causal", "train_flops"] *= 1.5
    runs.loc[runs["arm"] == "fixed_25", "train_cpu_seconds"] *= 1.5
    runs.loc[runs["arm"] == "fixed_75", "train_seconds"] *= 1.5  # the machine was busy
    table = cost_table(replace(STUDY, equal=equal), replace(evidence, runs=runs))
    assert [row[0] for row in table.rows if any("unequal" in cell for cell in row)] == marked
    flops = table.columns.index("FLOPs relative to baseline")
    assert {row[0]: row[flops] for row in table.rows}["causal (prefix of 1 patch)"].startswith("1.50 x")
    assert table.rows[-1][1] == "32"


def test_cost_table_compares_wall_time_where_cpu_time_does_not_measure_the_work(evidence):
    runs = evidence.runs.copy()
    runs.loc[runs["arm"] == "fixed_25", "train_seconds"] *= 1.5
    runs["train_cpu_seconds"] = np.nan
    table = cost_table(STUDY, replace(evidence, runs=runs))
    row = next(row for row in table.rows if row[0] == "fixed at 25 %")
    assert row[table.columns.index("training time relative to baseline")] == "1.50 x"
    assert row[table.columns.index("CPU minutes of training steps")] == "not measured"


def test_margins_have_their_reason():
    claims = {
        "one": expect("causal", "worse", than="uniform", metric=("content_loss", PROBE)),
        "another": expect("causal", "far worse", than="uniform", metric=PROBE, margin=0.05, why="a table"),
    }
    assert margins_note(replace(STUDY, claims=claims)) == (
        "content_loss 0.02 (set for this study);"
        " probe_object 0.01 (a point, where most of the paper's ablations differ by 0 to 1.0 points);"
        " probe_object 0.05 (a table)"
    )
