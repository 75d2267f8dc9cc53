import numpy as np
import pandas as pd
import pytest

from analysis.figures.searches import BEST, parallel_coordinates
from analysis.figures.style import style

TRIALS = pd.DataFrame(
    {
        "trial": range(6),
        "optimizer.peak_lr": [1e-4, 1e-3, 1e-2, 1e-3, 1e-3, 1e-3],
        "objective.alpha": [0.0, 0.5, 1.0, 0.5, 0.5, 0.25],
        "content_loss": [3.0, 2.0, 4.0, 3.5, np.nan, 3.0],
    }
)
PARAMETERS = {"optimizer.peak_lr": True, "objective.alpha": False}


@pytest.fixture(autouse=True)
def styled():
    with style():
        yield


def lines_of(trials, metric="content_loss"):
    """Return the lines from best to worst, and the data."""
    figure, data = parallel_coordinates(trials, PARAMETERS, metric)
    return figure.axes[0].lines[: len(trials)][::-1], data


def test_lines_are_at_the_heights_of_their_values():
    lines, data = lines_of(TRIALS)
    assert data["trial"].tolist() == [1, 0, 5, 3, 2, 4], "best first, without a value last"
    assert lines[0].get_ydata() == pytest.approx([0.5, 0.5, 1.0]), "a logarithmic middle; the lowest loss is on top"
    assert lines[1].get_ydata() == pytest.approx([0, 0, 0.5])
    assert lines[4].get_ydata() == pytest.approx([1, 1, 0])


def test_the_best_stand_out_and_unfinished_trials_are_dotted():
    lines, _ = lines_of(TRIALS)
    assert [line.get_color() == BEST for line in lines] == [True, True, False, False, False, False]
    assert lines[0].get_linewidth() > lines[1].get_linewidth()
    assert [line.get_linestyle() for line in lines] == ["-"] * 5 + [":"]
    assert np.isnan(lines[5].get_ydata()[2])


def test_higher_is_on_top_for_metrics_where_it_is_better():
    trials = TRIALS.rename(columns={"content_loss": "probe_object"})
    lines, data = lines_of(trials, "probe_object")
    assert data["trial"].iloc[0] == 2
    assert lines[0].get_ydata()[2] == 1


def test_a_parameter_that_never_changes_is_in_the_middle():
    lines, _ = lines_of(TRIALS.assign(**{"objective.alpha": 0.3}))
    assert {line.get_ydata()[1] for line in lines} == {0.5}


def test_a_search_without_any_result_can_be_drawn():
    lines, _ = lines_of(TRIALS.assign(content_loss=np.nan))
    assert all(line.get_linestyle() == ":" for line in lines)
