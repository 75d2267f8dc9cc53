import numpy as np
import pandas as pd
import pytest
from analysis.document.style import COLOURS, style
from matplotlib.colors import to_hex

from analysis.figures.interactions import interactions
from analysis.inference.intervals import Estimate

FACTORS = {"norm": ["rms", "layer"], "width": ["w1", "w2", "w3"]}
MEANS = {("rms", "w1"): 1.0, ("rms", "w2"): 2.0, ("rms", "w3"): 3.0, ("layer", "w1"): 2.0, ("layer", "w3"): 1.0}


@pytest.fixture
def drawn():
    cells = {levels: Estimate(mean, 0.1, 8, 4) for levels, mean in MEANS.items()}
    cells["layer", "w3"] = Estimate(1.0, 0.0, 8, 1)
    values = pd.DataFrame([(norm, width, mean) for (norm, width), mean in MEANS.items()], columns=[*FACTORS, "value"])
    with style():
        return interactions(cells, FACTORS, values, "loss [nats]")


def test_factor_with_more_levels_is_on_the_axis_and_the_other_has_lines(drawn):
    axis = drawn[0].axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["w1", "w2", "w3"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("width", "loss [nats]")
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["rms", "layer"]
    assert legend.get_title().get_text() == "norm"


def test_lines_pass_through_the_means_that_there_are(drawn):
    lines = {line.get_label(): line for line in drawn[0].axes[0].lines if not line.get_label().startswith("_")}
    assert list(lines["rms"].get_ydata()) == [1, 2, 3]
    assert list(lines["layer"].get_ydata()) == [2, 1]
    assert np.round(lines["layer"].get_xdata()).tolist() == [0, 2], "the combination that did not run is left out"
    assert [to_hex(line.get_color()) for line in lines.values()] == list(COLOURS[:2])


def test_data_has_a_row_per_combination_with_its_interval(drawn):
    rows = drawn[1].set_index(["norm", "width"])
    assert dict(rows["mean"]) == MEANS
    estimate = Estimate(2.0, 0.1, 8, 4)
    assert tuple(rows.loc[("rms", "w2"), ["low", "high"]]) == pytest.approx((estimate.low, estimate.high))
    assert np.isnan(rows.loc[("layer", "w3"), "low"]), "one seed has no interval"
