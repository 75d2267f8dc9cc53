"""Convergence of the specimen's runs: straight curves that fall by 2 over 16 samples, shifted by their final loss."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from aimv2.analysis.judgement.convergence import Curves
from tests.helpers.specimen import STUDY

SLOPE = 2 / 16


def shift(findings, arm):
    """The final loss of an arm minus that of the baseline, by seed."""
    values = findings.evidence.values("content_loss")
    return values[arm] - values["uniform"]


@pytest.fixture
def curves(findings):
    return Curves(STUDY, findings.evidence)


def test_better_arm_reaches_the_loss_early_and_leads_by_the_same(findings, curves):
    early = -shift(findings, "causal") / SLOPE
    at_end = curves.convergence("causal", "samples", 1.0)
    assert at_end.reached.estimate.mean == pytest.approx(16 - early.mean())
    assert (at_end.reached.num_reached, at_end.reached.horizon) == (4, 16)
    assert at_end.lead.mean == pytest.approx(early.mean())
    assert at_end.lead.error == pytest.approx(early.std() / 2)
    halfway = curves.convergence("causal", "samples", 0.5)
    assert halfway.reached.estimate.mean == pytest.approx(8 - early.mean())
    assert halfway.lead.mean == pytest.approx(early.mean())


def test_worse_arm_is_censored_at_its_budget_and_lags(findings, curves):
    late = shift(findings, "fixed_75") / SLOPE
    at_end = curves.convergence("fixed_75", "samples", 1.0)
    assert (at_end.reached.estimate.mean, at_end.reached.num_reached) == (16, 0)
    assert at_end.lead.mean == pytest.approx(-late.mean())
    halfway = curves.convergence("fixed_75", "samples", 0.5)
    assert halfway.reached.estimate.mean == pytest.approx(8 + late.mean())
    assert halfway.reached.num_reached == 4


def test_baseline_reaches_its_own_loss_on_time_and_has_no_lead(curves):
    found = curves.convergence("uniform", "samples", 0.5)
    assert found.reached.estimate.mean == pytest.approx(8)
    assert found.lead.n == 0


def test_arm_with_other_seeds_is_compared_with_the_mean_of_the_baseline(findings, curves):
    values = findings.evidence.values("content_loss")
    times = 8 + (values["null_control"] - values["uniform"].mean()) / SLOPE
    found = curves.convergence("null_control", "samples", 0.5)
    assert found.reached.estimate.mean == pytest.approx(times.clip(0, 16).mean())
    assert found.lead.n == 0


def test_other_costs_are_the_samples_times_the_cost_of_one(findings):
    runs = findings.evidence.runs.assign(train_flops=1000 * findings.evidence.runs["samples"])
    runs.loc[runs["arm"] == "causal", "train_flops"] *= 2
    curves = Curves(STUDY, replace(findings.evidence, runs=runs))
    samples = curves.convergence("causal", "samples", 0.5)
    flops = curves.convergence("causal", "flops", 0.5)
    assert flops.reached.estimate.mean == pytest.approx(2000 * samples.reached.estimate.mean)
    # With 8,000 FLOPs the arm has had 4 samples; the baseline has its loss after 4 samples and those of the shift.
    early = -shift(findings, "causal") / SLOPE
    assert flops.lead.mean == pytest.approx((4 + early.mean() - 8) * 1000)


def test_horizon_of_the_lead_is_the_smaller_budget(findings):
    """Half of the arm's curve is cut off, so leads end at 8 samples."""
    points = findings.evidence.curves
    points = points[(points["arm"] != "fixed_75") | (points["samples"] <= 8)]
    found = Curves(STUDY, replace(findings.evidence, curves=points)).convergence("fixed_75", "samples", 1.0)
    assert found.reached.horizon == 8
    assert found.lead.mean == pytest.approx(-shift(findings, "fixed_75").mean() / SLOPE)


def test_steps_without_a_held_out_loss_change_nothing(findings, curves):
    points = findings.evidence.curves
    between = points.assign(samples=points["samples"] + 2, held_out_caption_loss=np.nan)
    more = Curves(STUDY, replace(findings.evidence, curves=pd.concat([points, between])))
    assert more.convergence("causal", "samples", 1.0) == curves.convergence("causal", "samples", 1.0)


def test_what_was_not_measured_has_no_convergence(findings):
    evidence = findings.evidence
    assert Curves(STUDY, replace(evidence, curves=pd.DataFrame())).convergence("causal", "samples", 1.0) is None
    recall = evidence.curves.rename(columns={"held_out_caption_loss": "held_out_recall"})
    assert Curves(STUDY, replace(evidence, curves=recall)).convergence("causal", "samples", 1.0) is None
    runs = evidence.runs.assign(train_cpu_seconds=None)
    assert Curves(STUDY, replace(evidence, runs=runs)).convergence("causal", "seconds", 1.0) is None
    assert Curves(STUDY, evidence).convergence("untrained", "samples", 1.0) is None
