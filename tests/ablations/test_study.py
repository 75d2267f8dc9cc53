from dataclasses import replace

import pytest

from ablations.design import Arm
from ablations.expectations import PROBE, STEP_TIME
from ablations.study import WINNER, confirmation
from aimv2.base.errors import UsageError


def test_margin_is_the_studys_for_the_primary_metric_and_the_default_for_others(study):
    study = replace(study, equivalence_margin=0.5)
    assert [study.margin(metric) for metric in ("content_loss", "pixel_loss_0.5", PROBE, STEP_TIME)] == [
        0.5,
        0.02,
        0.01,
        0.0,
    ]


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


def test_arm_cannot_take_the_name_of_a_control(study):
    arms = {**study.arms, "null_control": Arm(label="mine")}
    with pytest.raises(AssertionError, match="reserved"):
        replace(study, design=replace(study.design, arms=arms))
