from dataclasses import replace

import numpy as np
import pytest

from aimv2.analysis.document.style import style
from aimv2.analysis.figures import MAX_SIZES, differences_to_baseline, draw_scaling, in_plain_words, learning_curves
from aimv2.analysis.inference.intervals import mean_interval
from aimv2.analysis.inference.scaling_law import assess, fit
from aimv2.analysis.judgement.differences import Differences
from tests.helpers.evidence import evidence_of
from tests.helpers.scaling import HOFFMANN, ladder_runs
from tests.helpers.specimen import STUDY

LABELS = {"n": "parameters", "d": "tokens", "loss": "loss [nats/token]"}


@pytest.fixture(autouse=True)
def styled():
    with style():
        yield


def test_differences_are_those_of_the_estimates_and_seeds():
    evidence = evidence_of(STUDY, {"causal": 0.1}, spread=0.01)
    estimates = Differences(STUDY, evidence).from_baseline("content_loss", ["causal", "fixed_25"])
    figure, data = differences_to_baseline(STUDY, evidence, estimates)
    data = data.set_index("arm")
    values = evidence.values("content_loss")
    for arm, estimate in estimates.items():
        assert data.loc[arm, ["mean", "low", "high"]].tolist() == [estimate.mean, estimate.low, estimate.high]
        for seed in values.index:
            paired = values.loc[seed, arm] - values.loc[seed, STUDY.baseline]
            assert data.loc[arm, f"seed {seed}"] == pytest.approx(paired)
    assert [text.get_text() for text in figure.axes[0].texts] == [STUDY.label(arm) for arm in ("causal", "fixed_25")]


def test_learning_curves_are_means_with_intervals_over_seeds_and_shorter_runs_are_not_in_the_second_half(evidence):
    curves, longest = evidence.curves, evidence.curves["samples"].max()
    short = replace(evidence, curves=curves[(curves["arm"] != "causal") | (curves["samples"] <= longest / 4)])
    figure, data = learning_curves(STUDY, short)
    assert set(data["arm"]) == set(STUDY.conditions)
    for point in data.itertuples():
        is_there = (curves["arm"] == point.arm) & (curves["samples"] == point.samples)
        estimate = mean_interval(curves.loc[is_there, evidence.curve])
        assert (point.mean, point.low, point.n) == (estimate.mean, estimate.low, 4)
    whole, late = figure.axes
    assert len(whole.lines) == len(STUDY.conditions)
    controls_apart = [STUDY.label(arm) for arm in STUDY.arms if arm != "causal"]
    assert [line.get_label() for line in late.lines] == controls_apart
    assert whole.lines[0].get_xdata().min() == curves.loc[curves["samples"] > 0, "samples"].min()
    assert late.lines[0].get_xdata().min() >= longest / 2


def test_the_legend_leaves_out_notes_on_the_scale(evidence):
    arms = {name: replace(arm, label=f"{arm.label} (here depth 1 for 2, 0.5 x)") for name, arm in STUDY.arms.items()}
    figure, _ = learning_curves(replace(STUDY, design=replace(STUDY.design, arms=arms)), evidence)
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == [STUDY.label(arm) for arm in STUDY.conditions]


def law_of(variables=("n", "d"), **ladder):
    return assess(ladder_runs(HOFFMANN, noise=0.01, **ladder), variables, num_draws=5)


def test_the_data_are_the_runs_the_law_and_its_errors_and_held_out_runs_are_open():
    law = law_of(num_seeds=2)
    figure, data = draw_scaling(law, LABELS)
    runs, curves = (data[data["kind"] == kind] for kind in ("run", "curve"))
    np.testing.assert_allclose(curves["loss"], law.law.predict(curves))
    unseen = fit(law.runs[~law.held_out.is_held_R], ["n", "d"])
    np.testing.assert_allclose(runs["error_percent"], 100 * (law.runs["loss"] / unseen.predict(law.runs) - 1))
    left, right = figure.axes
    assert (left.get_xscale(), left.get_yscale(), left.get_xlabel()) == ("log", "log", "tokens")
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels == [f"{in_plain_words(size)} parameters" for size in np.unique(law.runs["n"])]
    assert right.get_title(loc="left") == "errors of a fit without the open points"
    low, high = left.get_ylim()
    assert len([place for place in left.get_yticks() if low <= place <= high]) >= 3, "the loss can be read off"
    points = [line for line in left.lines if line.get_linestyle() == "None"]
    is_open = [line.get_markerfacecolor() != line.get_markeredgecolor() for line in points]
    assert is_open == runs.sort_values("n", kind="stable")["is_held_out"].tolist()


@pytest.mark.parametrize(
    ("number", "words"),
    [(1708, "1,708"), (463_210, "463,210"), (999_700, "1 million"), (2.72e9, "2.72 billion"), (1.6e10, "16 billion")],
)
def test_counts_are_in_plain_words(number, words):
    assert in_plain_words(number) == words


def test_one_variable_is_its_own_axis():
    law = law_of(["d"], sizes=1, samples=7)
    figure, data = draw_scaling(law, LABELS)
    assert figure.axes[0].get_xlabel() == "tokens"
    curve = data[data["kind"] == "curve"]
    np.testing.assert_allclose(curve["loss"], law.law.predict(curve))


def test_of_many_sizes_some_have_curves_and_without_held_out_runs_the_errors_are_those_of_the_fit():
    _, data = draw_scaling(law_of(num_seeds=1, sizes=12), LABELS)
    assert data.loc[data["kind"] == "curve", "n"].nunique() == MAX_SIZES
    assert (data["kind"] == "run").sum() == 48
    law = law_of(sizes=3, samples=3)
    figure, data = draw_scaling(law, LABELS)
    assert figure.axes[1].get_title(loc="left") == "errors of the fit"
    errors = data.loc[data["kind"] == "run", "error_percent"]
    np.testing.assert_allclose(errors, 100 * (law.runs["loss"] / law.law.predict(law.runs) - 1))
