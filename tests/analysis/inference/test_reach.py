import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.inference.reach import Reach, reach, samples_to_reach


def test_run_that_does_not_get_there_counts_its_budget():
    assert reach([100, math.nan, 300], [400, 400, 400]) == Reach(800 / 3, 2, 3)
    assert reach([math.nan], [400]) == Reach(400, 0, 1)
    assert reach([], []).n == 0


def curve(losses, step=100):
    return pd.Series(losses, index=[i * step for i in range(len(losses))])


@pytest.mark.parametrize(
    ("losses", "target", "expected"),
    [([4, 2, 1], 3, 50), ([4, 2, 1], 2, 100), ([4, 2, 1], 4, 0), ([4, 2, 3, 1], 2.5, 75), ([4, 3], 1, math.nan)],
)
def test_samples_to_reach_interpolates_between_points(losses, target, expected):
    assert samples_to_reach(curve(losses), target) == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=10), st.floats(0.1, 10))
def test_loss_at_the_samples_to_reach_is_the_target(losses, target):
    samples = samples_to_reach(curve(losses), target)
    if math.isnan(samples):
        assert min(losses) > target
    elif samples > 0:
        assert np.interp(samples, np.arange(len(losses)) * 100, losses) == pytest.approx(target, abs=1e-6)
