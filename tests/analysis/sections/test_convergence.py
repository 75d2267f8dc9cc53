"""Convergence of the specimen's runs: straight curves that fall by 2 over 16 samples, shifted by their final loss."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from aimv2.analysis.evidence.tables import MISSING_COLUMNS
from aimv2.analysis.sections import convergence
from aimv2.analysis.sections.study import document
from tests.helpers.documents import by_row, changed, judged_again, tables
from tests.helpers.specimen import STUDY

CAUSAL, BASELINE = "causal (prefix of 1 patch)", "uniform on 1..I-1"
HALF, ALL = (f"samples to the baseline's loss at {share} % of its budget" for share in (50, 100))
LEAD = "lead at 100 % [samples]"


SLOPE = 2 / 16


def shift(findings, arm):
    """The final loss of an arm minus that of the baseline, by seed."""
    values = findings.evidence.values("content_loss")
    return values[arm] - values["uniform"]


def converged(evidence, arm, cost="samples", fraction=1.0):
    return convergence.convergence(convergence.curves_of(evidence, cost), arm, STUDY.baseline, fraction)


def test_better_arm_reaches_the_loss_early_and_leads_by_the_same(findings):
    early = -shift(findings, "causal") / SLOPE
    at_end = converged(findings.evidence, "causal", "samples", 1.0)
    assert at_end.reached.estimate.mean == pytest.approx(16 - early.mean())
    assert (at_end.reached.num_reached, at_end.reached.estimate.limits[1]) == (4, 16)
    assert at_end.lead.mean == pytest.approx(early.mean())
    assert at_end.lead.error == pytest.approx(early.std() / 2)
    halfway = converged(findings.evidence, "causal", "samples", 0.5)
    assert halfway.reached.estimate.mean == pytest.approx(8 - early.mean())
    assert halfway.lead.mean == pytest.approx(early.mean())


def test_worse_arm_is_censored_at_its_budget_and_lags(findings):
    late = shift(findings, "fixed_75") / SLOPE
    at_end = converged(findings.evidence, "fixed_75", "samples", 1.0)
    assert (at_end.reached.estimate.mean, at_end.reached.num_reached) == (16, 0)
    assert at_end.lead.mean == pytest.approx(-late.mean())
    halfway = converged(findings.evidence, "fixed_75", "samples", 0.5)
    assert halfway.reached.estimate.mean == pytest.approx(8 + late.mean())
    assert halfway.reached.num_reached == 4


def test_baseline_and_an_arm_with_other_seeds_are_compared_with_its_mean_and_have_no_lead(findings):
    found = converged(findings.evidence, "uniform", "samples", 0.5)
    assert found.reached.estimate.mean == pytest.approx(8)
    assert found.lead.n == 0
    values = findings.evidence.values("content_loss")
    times = 8 + (values["null_control"] - values["uniform"].mean()) / SLOPE
    found = converged(findings.evidence, "null_control", "samples", 0.5)
    assert found.reached.estimate.mean == pytest.approx(times.clip(0, 16).mean())
    assert found.lead.n == 0


def test_other_costs_are_the_samples_times_the_cost_of_one(findings):
    runs = findings.evidence.runs.assign(train_flops=1000 * findings.evidence.runs["samples"])
    runs.loc[runs["arm"] == "causal", "train_flops"] *= 2
    evidence = replace(findings.evidence, runs=runs)
    samples, flops = converged(evidence, "causal", "samples", 0.5), converged(evidence, "causal", "flops", 0.5)
    assert flops.reached.estimate.mean == pytest.approx(2000 * samples.reached.estimate.mean)
    # With 8,000 FLOPs the arm has had 4 samples; the baseline has its loss after 4 samples and those of the shift.
    early = -shift(findings, "causal") / SLOPE
    assert flops.lead.mean == pytest.approx((4 + early.mean() - 8) * 1000)


def test_horizon_of_the_lead_is_the_smaller_budget(findings):
    """Half of the arm's curve is cut off, so leads end at 8 samples."""
    points = findings.evidence.curves
    points = points[(points["arm"] != "fixed_75") | (points["samples"] <= 8)]
    found = converged(replace(findings.evidence, curves=points), "fixed_75", "samples", 1.0)
    assert found.reached.estimate.limits[1] == 8
    assert found.lead.mean == pytest.approx(-shift(findings, "fixed_75").mean() / SLOPE)


def test_steps_without_a_held_out_loss_change_nothing(findings):
    points = findings.evidence.curves
    between = points.assign(samples=points["samples"] + 2, held_out_caption_loss=np.nan)
    more = replace(findings.evidence, curves=pd.concat([points, between]))
    assert converged(more, "causal") == converged(findings.evidence, "causal", "samples", 1.0)


def test_what_was_not_measured_has_no_convergence(findings):
    evidence = findings.evidence
    assert converged(replace(evidence, curves=pd.DataFrame()), "causal", "samples", 1.0) is None
    recall = evidence.curves.rename(columns={"held_out_caption_loss": "held_out_recall"})
    assert converged(replace(evidence, curves=recall), "causal", "samples", 1.0) is None
    runs = evidence.runs.assign(train_cpu_seconds=None)
    assert converged(replace(evidence, runs=runs), "causal", "seconds", 1.0) is None
    assert converged(evidence, "untrained", "samples", 1.0) is None


def test_studies_without_a_curve_of_a_loss_and_arms_with_other_tasks_are_not_compared(findings):
    without = replace(findings.evidence, curves=pd.DataFrame())
    assert convergence.section(judged_again(findings, without)) is None
    other = changed(findings, study=replace(findings.study, compares_curves=False))
    assert convergence.section(other) is None
    captions = {figure.name: figure.caption for figure in document(other, {}).figures()}
    assert "not comparable in this loss" in captions["learning_curves"]


def test_arm_with_a_failed_run_is_withheld(findings):
    missing = pd.DataFrame([("causal", 4, "", "not finite", True)], columns=MISSING_COLUMNS)
    found = judged_again(findings, replace(findings.evidence, missing=missing))
    row = by_row(tables(convergence.section(found))["convergence_samples"])[CAUSAL]
    assert {row[column] for column in (HALF, ALL, LEAD)} == {("withheld: a run failed",)}
