import numpy as np
import pytest

from aimv2.analysis.figures.scaling import MAX_NAMED, draw_scaling, in_plain_words
from aimv2.analysis.inference.scaling.assess import assess
from aimv2.analysis.inference.scaling.frontier import SIX_N_D, frontier
from aimv2.analysis.inference.scaling.power_law import FORMS, fit
from tests.helpers.scaling import HOFFMANN, ladder_runs

LABELS = {"n": "parameters", "d": "tokens", "loss": "loss [nats/token]"}


@pytest.fixture(scope="module")
def law():
    return assess(ladder_runs(HOFFMANN, noise=0.01, num_seeds=2), ["n", "d"], "additive", num_draws=20)


def test_the_data_are_the_runs_the_law_and_the_frontier(law):
    found = frontier(law.bootstrap, SIX_N_D)
    figure, data = draw_scaling(law, LABELS, SIX_N_D, found)
    runs, curves, optima = (data[data["kind"] == kind] for kind in ("run", "curve", "frontier"))
    np.testing.assert_allclose(runs["x"], 6 * law.runs["n"] * law.runs["d"])
    np.testing.assert_allclose(curves["loss"], law.law.predict(curves))
    np.testing.assert_allclose(curves["x"], 6 * curves["n"] * curves["d"])
    assert optima["loss_low"].tolist() == found.table["loss_low"].tolist()
    unseen = fit(FORMS["additive"], law.split.fitted)
    np.testing.assert_allclose(runs["error_percent"], 100 * (law.runs["loss"] / unseen.predict(law.runs) - 1))
    left, right = figure.axes
    assert left.get_xscale() == left.get_yscale() == "log"
    assert left.get_xlabel() == "training FLOPs"
    assert [text.get_text() for text in left.get_legend().get_texts()] == [
        *(f"{in_plain_words(size)} parameters" for size in np.unique(law.runs["n"])),
        "compute-optimal, 95 % interval",
    ]
    assert right.get_title(loc="left") == "errors of a fit without the open points"
    low, high = left.get_ylim()
    assert len([place for place in left.get_yticks() if low <= place <= high]) >= 3, "the loss can be read off"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1708, "1,708"),
        (16_048, "16,048"),
        (463_210, "463,210"),
        (999_700, "1 million"),
        (2.72e9, "2.72 billion"),
        (1.6e10, "16 billion"),
    ],
)
def test_counts_are_in_plain_words(number, words):
    assert in_plain_words(number) == words


def test_held_out_runs_have_open_markers(law):
    figure, data = draw_scaling(law, LABELS, SIX_N_D)
    points = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    is_open = [line.get_markerfacecolor() != line.get_markeredgecolor() for line in points]
    runs = data[data["kind"] == "run"].sort_values(["n", "d"])
    assert sum(is_open) == len(law.split.held_out)
    assert is_open == runs["is_held_out"].tolist()


def test_one_variable_is_its_own_axis():
    runs = ladder_runs(HOFFMANN, noise=0.01, sizes=1, samples=7)[["d", "loss"]]
    law = assess(runs, ["d"], "d", num_draws=20)
    figure, data = draw_scaling(law, LABELS)
    assert figure.axes[0].get_xlabel() == "tokens"
    curve = data[data["kind"] == "curve"]
    np.testing.assert_allclose(curve["loss"], law.law.predict(curve))
    assert curve["x"].tolist() == curve["d"].tolist()


def test_of_many_sizes_some_have_curves():
    law = assess(ladder_runs(HOFFMANN, noise=0.01, num_seeds=1, sizes=12), ["n", "d"], "additive", num_draws=20)
    _, data = draw_scaling(law, LABELS, SIX_N_D)
    assert data.loc[data["kind"] == "curve", "n"].nunique() == MAX_NAMED
    assert (data["kind"] == "run").sum() == 48


def test_without_held_out_runs_the_errors_are_those_of_the_fit():
    runs = ladder_runs(HOFFMANN, noise=0.01, sizes=3, samples=3)
    law = assess(runs, ["n", "d"], "additive", num_draws=20)
    figure, data = draw_scaling(law, LABELS, SIX_N_D)
    assert figure.axes[1].get_title(loc="left") == "errors of the fit"
    errors = data.loc[data["kind"] == "run", "error_percent"]
    np.testing.assert_allclose(errors, 100 * (runs["loss"] / law.law.predict(runs) - 1))
