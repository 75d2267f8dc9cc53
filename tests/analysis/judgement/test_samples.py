"""Differences told in samples, against power laws whose inverse is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.analysis.judgement.samples import MARGIN_SHARE, SampleCurve

SHARES = (0.25, 0.5, 0.75, 2.0)


def logarithmic(slope):
    """Return a metric that gets worse by a slope with each halving of the samples; interpolation is exact."""
    return SampleCurve({share: -slope * math.log2(share) for share in SHARES})


@given(slope=st.floats(0.01, 10), share=st.floats(0.26, 1.99))
def test_a_harm_is_told_as_the_share_of_samples_that_does_it(slope, share):
    assert logarithmic(slope).share(-slope * math.log2(share)) == pytest.approx(share, rel=1e-6)


@given(slope=st.floats(0.01, 10))
def test_the_margin_is_what_a_tenth_of_the_samples_is_worth(slope):
    assert MARGIN_SHARE == 0.1
    assert logarithmic(slope).margin == pytest.approx(-slope * math.log2(0.9))


def test_between_measured_shares_the_curve_is_linear_in_the_logarithm():
    curve = SampleCurve({0.5: 0.4, 2.0: -0.1})
    assert curve.share(0.2) == pytest.approx(0.5**0.5)
    assert curve.share(-0.05) == pytest.approx(2**0.5)
    assert curve.margin == pytest.approx(0.4 * math.log(0.9) / math.log(0.5))


@pytest.mark.parametrize("harms", [{}, {0.5: -0.1}, {0.5: 0.1, 2.0: 0.1}, {0.25: 0.1, 0.5: 0.2}])
def test_a_curve_that_is_not_monotone_tells_nothing(harms):
    curve = SampleCurve(harms)
    assert not curve.is_monotone
    assert math.isnan(curve.margin)
    assert math.isnan(curve.share(0.1))
    assert curve.worth(0.1, 0.0, 0.2) == ""


@given(harms=st.lists(st.floats(-5, 5), min_size=4, max_size=4))
def test_a_curve_is_monotone_if_every_cut_in_samples_harms(harms):
    own = dict(zip(SHARES, harms, strict=True))
    ordered = [own[0.25], own[0.5], own[0.75], 0.0, own[2.0]]
    assert SampleCurve(own).is_monotone == all(np.diff(ordered) < 0)


def test_worth_in_words_names_both_sides_and_what_lies_beyond_the_curve():
    curve = logarithmic(1.0)
    assert curve.worth(1.0, 0.0, 2.5) == "worth 50 % fewer samples, between as many and more than 75 % fewer"
    assert curve.worth(-2.0, -3.0, -1.5) == "worth more than 100 % more samples", "one bound says it all"
    assert curve.worth(0.0, -2.0, 2.5) == "", "an interval beyond both ends says nothing"
    assert curve.worth(-0.5, -2.0, 0.1) == "worth 41 % more samples, between more than 100 % more and 7 % fewer"
    few = SampleCurve({0.5: 0.1})  # nothing beyond all samples was measured
    assert few.worth(-0.2, -0.3, 0.0) == "worth more samples, between more and as many"
