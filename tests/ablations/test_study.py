import re
from dataclasses import replace

import pytest

from aimv2.ablations.design import Arm
from aimv2.ablations.expectations import PROBE, expect
from aimv2.ablations.study import UNTRAINED, WINNER, confirmation, is_untrained, untrained_of
from aimv2.base.errors import UsageError
from tests.helpers.other_model import STUDY as NUMBERS

METRICS = ("content_loss", "pixel_loss_0.5", PROBE)


def test_margins_are_measured_ones_and_else_conventions(study):
    assert [study.margin(metric) for metric in METRICS] == [0.1, 0.1, 0.01]
    measured = study.with_margins({"content_loss": 0.07, PROBE: 0.02})
    assert [measured.margin(metric) for metric in METRICS] == [0.07, 0.1, 0.02]
    assert (measured.primary_metric, measured.primary_margin) == ("content_loss", 0.07)
    (one,), (other,) = (expect("a", "equal", than="b", metric=PROBE, margin=margin) for margin in (None, 0.3))
    assert (measured.margin_of(one), measured.margin_of(other)) == (0.02, 0.3)


def test_the_margin_that_a_launch_sets_is_that_of_the_primary_metric(study):
    chosen = replace(study, equivalence_margin=0.5).with_margins({"content_loss": 0.07, PROBE: 0.02})
    assert [chosen.margin(metric) for metric in METRICS] == [0.5, 0.1, 0.02]
    assert replace(study, equivalence_margin=0.0).primary_margin == 0, "a margin of 0 is a margin"


@pytest.mark.parametrize(
    ("values", "ending"),
    [
        ({}, ""),
        ({"equal": "flops"}, "_equal_flops"),
        ({"is_search": True}, "_search"),
        ({"equal": "flops", "is_search": True}, "_equal_flops_search"),
        ({"suffix": "wide", "is_search": True}, "_search_wide"),
    ],
)
def test_folder_names_what_is_held_equal_a_search_and_the_suffix(study, values, ending):
    assert replace(study, **values).folder == f"prefix_ratio{ending}"


def test_confirmation_of_a_search_compares_its_winner_with_the_baseline_and_judges_no_claim(study):
    arms = {study.baseline: study.arms[study.baseline], WINNER: Arm(label="trial 3")}
    found = confirmation(study, arms)
    assert found.conditions == ["uniform", "winner"]
    assert (found.claims, found.expected, found.controls, found.is_search) == ({}, {}, (), True)
    assert found.deciding_metrics == [study.primary_metric]
    assert (found.slug, found.question, found.margin("content_loss")) == (
        study.slug,
        study.question,
        study.margin("content_loss"),
    )


def test_baseline_must_be_an_arm(study):
    with pytest.raises(UsageError, match=r"unknown sweep\.baseline 'casual'"):
        replace(study, baseline="casual")


@pytest.mark.parametrize("name", ["null_control", "untrained", "untrained_mine"])
def test_arm_cannot_take_the_name_of_a_control(study, name):
    arms = {**study.arms, name: Arm(label="mine")}
    with pytest.raises(UsageError, match=f"{name} cannot name an arm; every study has one of that name"):
        replace(study, design=replace(study.design, arms=arms))


def test_untrained_encoders_have_names_and_labels_of_their_own(study):
    assert not any(map(is_untrained, study.conditions))
    assert all(map(is_untrained, [UNTRAINED, untrained_of("causal")]))
    assert (study.label(UNTRAINED), study.label("untrained_causal")) == (
        "untrained",
        f"{study.label('causal')}, untrained",
    )
    assert study.cell_names[: len(study.conditions) + 1] == [*study.conditions, UNTRAINED]
    assert set(map(untrained_of, study.arms)) < set(study.cell_names)


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("numbers_20", "unknown arm in expected of sweep 'numbers': 'numbers_20'. Did you mean 'numbers_10'?"),
        ("numbers_40", "Allowed: numbers_10, numbers_160."),  # the baseline has no expectation
    ],
)
def test_an_expectation_is_of_an_arm_beside_the_baseline(arm, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        replace(NUMBERS, expected={arm: "worse"})
