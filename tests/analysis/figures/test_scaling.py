import numpy as np
import pytest

from aimv2.analysis.figures import MAX_SIZES, draw_scaling, in_plain_words
from aimv2.analysis.inference.scaling_law import assess, fit
from tests.helpers.scaling import HOFFMANN, ladder_runs

LABELS = {"n": "parameters", "d": "tokens", "loss": "loss [nats/token]"}


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


def test_of_many_sizes_some_have_curves_and_all_have_runs():
    _, data = draw_scaling(law_of(num_seeds=1, sizes=12), LABELS)
    assert data.loc[data["kind"] == "curve", "n"].nunique() == MAX_SIZES
    assert (data["kind"] == "run").sum() == 48


def test_without_held_out_runs_the_errors_are_those_of_the_fit():
    law = law_of(sizes=3, samples=3)
    figure, data = draw_scaling(law, LABELS)
    assert figure.axes[1].get_title(loc="left") == "errors of the fit"
    errors = data.loc[data["kind"] == "run", "error_percent"]
    np.testing.assert_allclose(errors, 100 * (law.runs["loss"] / law.law.predict(law.runs) - 1))
