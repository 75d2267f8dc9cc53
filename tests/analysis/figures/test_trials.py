import numpy as np
import pytest

from analysis.figures.trials import pareto_front
from tests.helpers.searches import FLOPS, LOSS, parsed, typical


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
    dots = [line for line in axis.lines if line.get_label().lstrip("_") == "Pareto front"]
    assert len(dots) == len(search.front)
