from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from aimv2.ablations.study import UNTRAINED
from aimv2.analysis.evidence.tables import MISSING_COLUMNS, MIXTURE_COLUMNS
from aimv2.analysis.judgement.guards import arm_notes, is_unequal, metric_notes, notes, relative_cost
from tests.helpers.documents import judged_again
from tests.helpers.specimen import STUDY

METRIC = STUDY.primary_metric


def changed(findings, **parts):
    return judged_again(findings, replace(findings.evidence, **parts))


def missing(*rows):
    """Rows of arm, seed and whether the run failed."""
    return pd.DataFrame([(arm, seed, "", "a reason", failed) for arm, seed, failed in rows], columns=MISSING_COLUMNS)


def test_whole_arm_of_equal_budget_has_no_notes(findings):
    assert [notes(findings, arm, METRIC) for arm in [*STUDY.conditions, UNTRAINED]] == [()] * 8


def test_mixed_code_is_said_once_and_alone(findings):
    runs = findings.evidence.runs.assign(code=["other", *["c" * 12] * 31])
    found = changed(findings, runs=runs)
    assert metric_notes(found, METRIC) == ("the runs are of 2 codes",)
    assert notes(found, "causal", METRIC) == ("the runs are of 2 codes",)


def test_mixed_code_that_is_allowed_is_said_too(findings):
    runs = findings.evidence.runs.assign(code=["other", *["c" * 12] * 31])
    allowing = replace(STUDY, allow_mixed_code=True)
    found = judged_again(findings, replace(findings.evidence, runs=runs), study=allowing)
    assert metric_notes(found, METRIC) == ("the runs are of 2 codes, which the sweep allows",)


def test_controls_that_did_not_pass_limit_their_metric_but_no_cost(findings):
    metrics = findings.evidence.metrics.copy()
    is_control = (metrics["arm"] == "positive_control") & (metrics["metric"] == METRIC)
    metrics.loc[is_control, "value"] -= 2  # it is better, which is the wrong side
    found = changed(findings, metrics=metrics)
    assert metric_notes(found, METRIC) == (f"positive control failed in {METRIC}",)
    assert metric_notes(found, "") == ()


def test_insensitive_and_unmeasured_metrics_differ(findings):
    blind = {METRIC: replace(findings.sensitivity[METRIC], is_blind=True)}
    assert metric_notes(judged_again(findings, findings.evidence, seen=blind), METRIC) == (
        f"{METRIC} is not sensitive at this scale",
    )
    assert metric_notes(judged_again(findings, findings.evidence, seen={}), METRIC) == (
        f"the sensitivity of {METRIC} was not measured",
    )


def test_failed_runs_of_arm_and_baseline_are_named(findings):
    found = changed(findings, missing=missing(("causal", 4, True), ("uniform", 4, True), ("fixed_25", 4, True)))
    assert arm_notes(found, "causal") == (
        f"1 of 5 runs of {STUDY.label('causal')} failed",
        "1 of 5 runs of uniform on 1..I-1 failed",
    )


def test_missing_seeds_are_counted_without_failed_ones(findings):
    found = changed(findings, missing=missing(("causal", 4, False), ("causal", 5, False), ("causal", 6, True)))
    assert "2 of 7 seeds missing" in arm_notes(found, "causal")


def test_single_seed_is_said_of_the_metric_that_has_one(findings):
    metrics = findings.evidence.metrics
    gone = (metrics["arm"] == "causal") & (metrics["metric"] == METRIC) & (metrics["seed"] > 0)
    found = changed(findings, metrics=metrics[~gone])
    assert arm_notes(found, "causal", METRIC) == ("one seed, so no interval",)
    assert arm_notes(found, "causal", "causal_content_loss") == ()
    runs = findings.evidence.runs
    found = changed(findings, runs=runs[(runs["arm"] != "causal") | (runs["seed"] == 2)])
    assert arm_notes(found, "causal") == ("1 of the baseline's 4 seeds", "one seed, so no interval")


def test_arms_with_fewer_seeds_than_the_baseline_say_so(findings):
    runs = findings.evidence.runs
    found = changed(findings, runs=runs[(runs["arm"] != "causal") | (runs["seed"] < 2)])
    assert arm_notes(found, "causal") == ("2 of the baseline's 4 seeds",)
    assert arm_notes(found, "fixed_25") == ()
    found = changed(findings, runs=runs[(runs["arm"] != "uniform") | (runs["seed"] < 2)])
    assert arm_notes(found, "causal") == (), "it has more"
    found = changed(findings, runs=runs[runs["arm"] != "causal"])
    assert arm_notes(found, "causal") == (), "it was not requested"


def test_budget_is_noted_in_the_cost_that_the_study_holds_equal(findings):
    runs = findings.evidence.runs.copy()
    runs.loc[runs["arm"] == "causal", "train_flops"] *= 1.5
    evidence = replace(findings.evidence, runs=runs)
    assert arm_notes(judged_again(findings, evidence), "causal") == ()
    found = judged_again(findings, evidence, study=replace(STUDY, equal="flops"))
    assert arm_notes(found, "causal") == ("unequal: 1.50 x the baseline's FLOPs",)
    assert arm_notes(found, "fixed_25") == arm_notes(found, UNTRAINED) == ()


@pytest.mark.parametrize(("factor", "expected"), [(1.005, False), (1.011, True), (0.98, True)])
def test_one_per_cent_is_equal(findings, factor, expected):
    runs = findings.evidence.runs.astype({"samples": float})
    runs.loc[runs["arm"] == "causal", "samples"] *= factor
    assert is_unequal(STUDY, replace(findings.evidence, runs=runs), "causal") == expected


def test_wall_time_stands_in_for_cpu_time_that_was_not_measured(findings):
    runs = findings.evidence.runs.assign(train_cpu_seconds=np.nan)
    runs.loc[runs["arm"] == "causal", "train_seconds"] *= 3
    assert relative_cost(STUDY, replace(findings.evidence, runs=runs), "causal", "seconds") == pytest.approx(3)
    assert np.isnan(relative_cost(STUDY, findings.evidence, UNTRAINED, "samples"))
    assert np.isnan(relative_cost(STUDY, replace(findings.evidence, runs=runs[["arm", "seed"]]), "causal", "flops"))


def test_epochs_beyond_the_stated_number_are_named_by_source(findings):
    rows = [
        dict(zip(MIXTURE_COLUMNS[:6], ("causal", seed, source, 10, 5, epochs), strict=True))
        for seed in (0, 1)
        for source, epochs in (("few", 4.0), ("many", 6.2 + seed / 5))
    ]
    found = changed(findings, mixture=pd.DataFrame(rows))
    assert arm_notes(found, "causal") == ("6.3 epochs of many, more than 4",)
    assert arm_notes(found, "fixed_25") == ()
