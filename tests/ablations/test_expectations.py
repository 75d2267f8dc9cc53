import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.ablations.expectations import PROBE, Combination, Ranges, expect, gain, minus, slope

SUM = partial(Combination, name="sum", metric=PROBE, relation="better")
WIDER = partial(Ranges, name="widths", than_name="depths", metric=PROBE)


def test_one_expectation_per_arm():
    one, two = expect(("a", "b"), "worse", than="c", metric=PROBE)
    assert (one.arm, two.arm) == ("a", "b")
    assert {(e.relation, e.than_arm, e.metric, e.than_metric) for e in (one, two)} == {("worse", "c", PROBE, PROBE)}
    assert expect("a", "worse", than="c", metric=PROBE) == (one,)
    (masked,) = expect("a", "worse", than="a", metric="content_loss", than_metric="causal_content_loss")
    assert (masked.metric, masked.than_metric) == ("content_loss", "causal_content_loss")
    both = expect(("a", "b"), "worse", than="c", metric=(PROBE, "caption_loss"))
    assert both == (one, two, *expect(("a", "b"), "worse", than="c", metric="caption_loss"))


def test_claimed_effect_and_margin_are_positive_sizes():
    (one,) = expect("a", "worse", than="c", metric=PROBE, effect=0.1, margin=0.0, why="Table 1")
    assert (one.effect, one.margin, one.why) == (0.1, 0.0, "Table 1")
    kinds = (
        partial(expect, "a", "worse", than="c", metric=PROBE),
        partial(SUM, weights={"a": 1.0, "b": -1.0}),
        partial(WIDER, range_arms=("a", "b"), than_arms=("b", "c")),
    )
    for kind in kinds:
        with pytest.raises(ValueError, match="effect=0 must be above 0"):
            kind(effect=0)
        with pytest.raises(ValueError, match="margin=-1 must not be negative"):
            kind(margin=-1)


def test_each_kind_names_its_arms_and_metrics_and_takes_stand_ins():
    (two,) = expect("a", "worse", than="a", metric="content_loss", than_metric="causal_content_loss")
    (one,) = expect("a", "worse", than="b", metric=PROBE)
    line, wide = SUM(weights={"a": -1.0, "b": 1.0}), WIDER(range_arms=("a", "b"), than_arms=("b", "c"))
    assert [each.arms for each in (two, one, line, wide)] == [("a",), ("a", "b"), ("a", "b"), ("a", "b", "c")]
    assert two.metrics == ("content_loss", "causal_content_loss")
    assert {each.metrics for each in (one, line, wide)} == {(PROBE,)}
    for each in (one, line, wide):
        assert each.in_metrics({PROBE: "probe_digits"}).metrics == ("probe_digits",)
        assert each.in_metrics({"caption_loss": "probe_digits"}) == each


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (partial(SUM, weights={"a": 1.0}), "two arms or more"),
        (partial(SUM, weights={"a": 1.0, "b": math.nan}), "a finite weight"),
        (partial(SUM, weights={"a": 1.0, "b": 1.0}), "must add up to 0"),
        (partial(WIDER, range_arms=("a",), than_arms=("b", "c")), r"two arms or more, each once, got \['a'\]"),
        (partial(WIDER, range_arms=("a", "b"), than_arms=("c", "c")), "each once"),
        (partial(WIDER, range_arms=("a", "b"), than_arms=("a", "b")), "may share one arm"),
        (partial(slope, {"a": 1, "b": 1}), "two different places"),
    ],
)
def test_arms_and_weights_that_compare_nothing_are_refused(made, problem):
    with pytest.raises(ValueError, match=problem):
        made()


@given(
    places=st.lists(st.integers(-5, 5), min_size=2, max_size=6, unique=True),
    rng=st.integers(0, 99).map(np.random.default_rng),
)
def test_slope_is_that_of_numpys_fit(places, rng):
    values = rng.normal(size=len(places))
    weights = slope({f"arm{number}": place for number, place in enumerate(places)})
    assert sum(weights.values()) == pytest.approx(0, abs=1e-12)
    fitted = np.polyfit(places, values, 1)[0]
    assert np.dot(list(weights.values()), values) == pytest.approx(fitted)


def test_gain_is_the_slope_over_an_objectives_levels_and_a_difference_keeps_arms_of_both():
    """With three equally spaced levels the slope is half the last minus the first."""
    assert gain("clip", {"one": 0, "two": 1, "four": 2}) == {"clip_one": -0.5, "clip_two": 0.0, "clip_four": 0.5}
    assert minus({"a": 1.0, "b": -1.0}, {"b": 2.0, "c": -2.0}) == {"a": 1.0, "b": -3.0, "c": 2.0}
