import numpy as np
import pandas as pd
import pytest

from analysis.figures.searches import BEST, parallel_coordinates, search_coordinates
from tests.helpers.searches import FLOPS, LOSS, parsed, search_of, trial, typical

TRIALS = pd.DataFrame(
    {
        "trial": range(6),
        "optimizer.peak_lr": [1e-4, 1e-3, 1e-2, 1e-3, 1e-3, 1e-3],
        "objective.alpha": [0.0, 0.5, 1.0, 0.5, 0.5, 0.25],
        "content_loss": [3.0, 2.0, 4.0, 3.5, np.nan, 3.0],
    }
)
PARAMETERS = {"optimizer.peak_lr": True, "objective.alpha": False}


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


def test_levels_are_at_equal_distances_with_their_labels():
    trials = pd.DataFrame({"trial": range(3), "form": ["c", "a", "b"], "content_loss": [1.0, 2.0, 3.0]})
    levels = {"form": {"a": "first", "b": "second", "c": "third"}}
    figure, data = parallel_coordinates(trials, {"form": False}, "content_loss", levels=levels)
    best, second, third = figure.axes[0].lines[:3][::-1]
    assert [line.get_ydata()[0] for line in (best, second, third)] == [1.0, 0.0, 0.5]
    assert {"first", "second", "third"} <= {text.get_text() for text in figure.axes[0].texts}
    assert data["form"].tolist() == ["c", "a", "b"]


def test_a_single_level_is_in_the_middle():
    trials = pd.DataFrame({"trial": [0], "form": ["a"], "content_loss": [1.0]})
    figure, _ = parallel_coordinates(trials, {"form": False}, "content_loss", levels={"form": {"a": "first"}})
    assert figure.axes[0].lines[0].get_ydata()[0] == 0.5


def test_trials_of_a_search_end_before_the_metric_unless_they_finished():
    trials = [
        trial(0, values=[2.0]),
        trial(1, "pruned", values=[1.0]) | {"values": [1.0]},
        trial(2, "failed", params={}),
    ]
    figure, data = search_coordinates(parsed(search_of(trials)))
    assert data["trial"].tolist() == [0, 1, 2]
    assert data["content_loss"].isna().tolist() == [False, True, True], "the last value of a pruned trial is no result"
    assert [line.get_linestyle() for line in figure.axes[0].lines[:3]] == [":", ":", "-"]


def test_further_metrics_of_a_search_are_axes_before_the_one_that_decides():
    figure, data = search_coordinates(parsed(typical(metrics=(LOSS, FLOPS))))
    assert list(data)[-2:] == ["train_flops", "content_loss"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()][-2:] == ["train_flops", "content_loss"]


def test_direction_of_a_search_is_its_own():
    """The metrics of evaluation do not know the name."""
    unknown = {"name": "throughput", "direction": "maximize", "unit": "images/s"}
    trials = [trial(n, values=[value]) for n, value in enumerate([1.0, 3.0, 2.0])]
    figure, data = search_coordinates(parsed(search_of(trials, metrics=(unknown,))))
    assert data["trial"].tolist() == [1, 2, 0]
    assert figure.axes[0].lines[2].get_ydata()[-1] == 1, "higher is on top"
