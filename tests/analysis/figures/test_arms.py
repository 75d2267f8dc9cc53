from dataclasses import replace

import pytest

from aimv2.ablations.ladder import KnownEffect, Ladder, Seen, base_of
from aimv2.analysis.figures.arms import differences_to_baseline, draw_ladder, learning_curves
from aimv2.analysis.inference.intervals import mean_interval
from aimv2.analysis.judgement.differences import Differences
from aimv2.config.recipes.scales import demo
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


LOSS, BLIND, ACCURACY = "content_loss", "content_loss_ink", "probe_object"
RUNGS = {"samples_050": "half the samples", "samples_200": "twice the samples"}
NOT_RUN = {"untrained": "untrained"}


def effect(mean, half_width=0.1):
    return KnownEffect(mean=mean, low=mean - half_width, high=mean + half_width, num_seeds=4)


@pytest.fixture(scope="module")
def ladder():
    def seen(paired_sd, effects):
        return Seen(unit="a unit", seed_sd=1, paired_sd=paired_sd, effects=dict(zip(RUNGS, effects, strict=False)))

    metrics = {
        LOSS: seen(0.05, [effect(0.4), effect(-0.3)]),
        BLIND: seen(0.05, [effect(0.01), effect(-0.002)]),
        ACCURACY: seen(0.1, [effect(-2)]),
        "without_noise": seen(0, []),
    }
    return Ladder(base=base_of(demo()), rungs={**NOT_RUN, **RUNGS}, metrics=metrics)


def test_effects_are_in_units_of_noise_and_harm_is_positive(ladder):
    found = draw_ladder(ladder)[1].set_index(["metric", "rung"])["worse"].to_dict()
    assert found == pytest.approx({(LOSS, "samples_050"): 8, (LOSS, "samples_200"): -6, (ACCURACY, "samples_050"): 20})


def test_ladder_has_a_row_per_deciding_metric_with_noise(ladder):
    figure, data = draw_ladder(ladder)
    axis = figure.axes[0]
    assert {label.get_text() for label in axis.get_yticklabels()} == {LOSS, ACCURACY}
    assert set(data["metric"]) == {LOSS, ACCURACY}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(RUNGS.values())
    low, high = axis.get_xlim()
    assert {-5, -2, 2, 5, 10, 20} <= {round(place) for place in axis.get_xticks()}, "effects can be read off"
    assert low < -6
    assert high > 20
