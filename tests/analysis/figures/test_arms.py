from dataclasses import replace

import pytest

from aimv2.analysis.figures import differences_to_baseline, learning_curves
from aimv2.analysis.inference.intervals import mean_interval
from aimv2.analysis.judgement.differences import Differences
from tests.helpers.evidence import evidence_of
from tests.helpers.specimen import STUDY


def differences(evidence, arms=("causal", "fixed_25")):
    estimates = Differences(STUDY, evidence).from_baseline("content_loss", list(arms))
    figure, data = differences_to_baseline(STUDY, evidence, estimates)
    return estimates, figure.axes[0], data.set_index("arm")


def test_differences_are_those_of_the_estimates_and_seeds():
    evidence = evidence_of(STUDY, {"causal": 0.1}, spread=0.01)
    estimates, axis, data = differences(evidence)
    assert list(data.index) == ["causal", "fixed_25"]
    values = evidence.values("content_loss")
    for arm, estimate in estimates.items():
        assert data.loc[arm, ["mean", "low", "high"]].tolist() == [estimate.mean, estimate.low, estimate.high]
        for seed in values.index:
            paired = values.loc[seed, arm] - values.loc[seed, STUDY.baseline]
            assert data.loc[arm, f"seed {seed}"] == pytest.approx(paired)
    assert [text.get_text() for text in axis.texts] == [STUDY.label(arm) for arm in data.index]


def test_learning_curves_are_means_with_intervals_over_seeds(evidence):
    figure, data = learning_curves(STUDY, evidence)
    assert set(data["arm"]) == set(STUDY.conditions)
    curves = evidence.curves
    for point in data.itertuples():
        is_there = (curves["arm"] == point.arm) & (curves["samples"] == point.samples)
        estimate = mean_interval(curves.loc[is_there, evidence.curve])
        assert (point.mean, point.low, point.n) == (estimate.mean, estimate.low, 4)
    whole, late = figure.axes
    assert len(whole.lines) == len(STUDY.conditions)
    assert len(late.lines) == len(STUDY.arms), "the second half leaves out controls"
    assert whole.lines[0].get_xdata().min() == curves.loc[curves["samples"] > 0, "samples"].min()
    assert late.lines[0].get_xdata().min() >= curves["samples"].max() / 2


def test_the_legend_leaves_out_notes_on_the_scale(evidence):
    arms = {name: replace(arm, label=f"{arm.label} (here depth 1 for 2, 0.5 x)") for name, arm in STUDY.arms.items()}
    noted = replace(STUDY, design=replace(STUDY.design, arms=arms))
    figure, _ = learning_curves(noted, evidence)
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == [STUDY.label(arm) for arm in STUDY.conditions]


def test_arms_with_shorter_runs_are_not_in_the_second_half(evidence):
    curves = evidence.curves
    short = curves[(curves["arm"] != "causal") | (curves["samples"] <= curves["samples"].max() / 4)]
    whole, late = learning_curves(STUDY, replace(evidence, curves=short))[0].axes
    assert len(whole.lines) == len(STUDY.conditions)
    assert [line.get_label() for line in late.lines] == [STUDY.label(arm) for arm in STUDY.arms if arm != "causal"]
