import pytest

from ablations.expectations import PROBE, STEP_TIME, default_margin, expect, margin_reason


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
    with pytest.raises(ValueError, match="effect=-1 must be above 0"):
        expect("a", "worse", than="c", metric=PROBE, effect=-1)
    with pytest.raises(ValueError, match="margin=-1 must not be negative"):
        expect("a", "worse", than="c", metric=PROBE, margin=-1)


@pytest.mark.parametrize(
    ("metric", "margin"),
    [
        ("caption_loss", 0.02),
        ("caption_bits", 0.02),
        ("content_loss", 0.1),
        ("causal_content_loss", 0.1),
        ("content_loss_ink", 0.1),
        ("image_gain_object", 0.1),
        ("unseen_content_loss", 0.1),
        (PROBE, 0.01),
        ("image_to_text_recall_1", 0.01),
        (STEP_TIME, 0),
    ],
)
def test_default_margin_depends_on_the_kind_of_metric(metric, margin):
    assert default_margin(metric) == margin


def test_margins_have_a_reason():
    assert margin_reason(PROBE).startswith("a point")
    assert "a tenth fewer samples" in margin_reason("content_loss")
    assert margin_reason(STEP_TIME) == "any difference counts"
