import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.document.style import style
from analysis.figures.trials import history, pareto_front
from tests.helpers.searches import FLOPS, LOSS, parsed, search_of, trial, typical

ACCURACY = {"name": "probe_object", "direction": "maximize", "unit": ""}
STATES = ("finished", "pruned", "failed")


def labelled(axis, label):
    """Return the artists of a legend's label: those after the first have an underscore."""
    return [line for line in axis.lines if line.get_label().lstrip("_") == label]


@given(
    st.lists(st.tuples(st.sampled_from(STATES), st.integers(-9, 9)), min_size=1, max_size=12),
    st.sampled_from([LOSS, ACCURACY]),
)
def test_best_so_far_is_the_best_of_the_finished_trials_up_to_each(trials, metric):
    values = [trial(n, state, values=[float(value)]) for n, (state, value) in enumerate(trials)]
    with style():
        _, data = history(parsed(search_of(values[::-1], metrics=(metric,))))
    best = min if metric is LOSS else max
    for place, found in enumerate(data["best"]):
        finished = [value for state, value in trials[: place + 1] if state == "finished"]
        assert found == best(finished) if finished else np.isnan(found)


def test_history_marks_states_and_has_pruned_trials_on_the_axis():
    trials = [
        trial(0, values=[2.0]),
        trial(1, values=[3.0]),
        trial(2, "pruned", curve=[[100, 9.0], [200, 8.0]]),
        trial(3, "pruned", curve=[[100, 2.5]]),
        trial(4, "failed"),
        trial(5, "pruned"),
    ]
    figure, data = history(parsed(search_of(trials)))
    (axis,) = figure.axes
    assert [line.get_xydata().tolist() for line in labelled(axis, "finished")] == [[[0, 2]], [[1, 3]]]
    assert axis.get_ylim() == pytest.approx((1.85, 3.15)), "room of 15 % of the range"
    assert [line.get_xydata().tolist()[0] for line in labelled(axis, "pruned")] == [
        pytest.approx([2, 1.85]),
        pytest.approx([3, 1.85]),
        pytest.approx([5, 1.85]),
    ]
    assert data["value"].isna().tolist() == [False, False, True, True, True, True], "their curves are of another metric"
    assert [line.get_xdata()[0] for line in labelled(axis, "failed")] == [4]
    assert [line.get_xdata()[0] for line in labelled(axis, "winner of the search")] == [0]


@pytest.mark.parametrize("trials", [[trial(0, "failed")], [trial(0)], [trial(0, "pruned", curve=[[1, 2.0]])], []])
def test_history_of_few_trials_is_drawn(trials):
    figure, data = history(parsed(search_of(trials)))
    low, high = figure.axes[0].get_ylim()
    assert low < high
    assert len(data) == len(trials)


@pytest.mark.parametrize("second", [FLOPS, FLOPS | {"direction": "maximize"}])
def test_front_is_a_staircase_through_its_trials(second):
    """No point of the staircase is dominated by a trial, whichever way the second metric is better."""
    search = parsed(typical(metrics=(LOSS, second)))
    figure, data = pareto_front(search)
    (axis,) = figure.axes
    assert set(data.loc[data["front"], "trial"]) == set(search.front)
    assert len(data) == len(search.finished)
    stairs = axis.lines[0]
    front = data[data["front"]]
    np.testing.assert_allclose(stairs.get_xydata(), front[["train_flops", "content_loss"]])
    # With fewer FLOPs better, a trial with more FLOPs than one of the front is as good by it: the step is to the right.
    assert stairs.get_drawstyle() == ("steps-post" if second is FLOPS else "steps-pre")
    assert len(labelled(axis, "Pareto front")) == len(search.front)
