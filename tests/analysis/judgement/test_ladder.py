"""The ladder against evidence with known effects and noise."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ablations.catalogue import STUDIES
from ablations.expectations import STEP_TIME
from aimv2.config.recipes.scales import demo
from analysis.inference.items import ItemMoments
from analysis.judgement.ladder import climb
from analysis.judgement.sensitivity import sensitivity_of
from tests.helpers.evidence import evidence_from, evidence_of

STUDY = STUDIES["sensitivity"]
LOSS, BLIND, ACCURACY = "content_loss", "content_loss_ink", "probe_object"
EFFECTS = {
    (rung, metric): size * scale
    for rung, size in (("samples_050", 0.4), ("samples_200", -0.3), ("positive_control", 2.0))
    for metric, scale in ((LOSS, 1), (ACCURACY, -1))
} | {("depth_050", STEP_TIME): -1}


@pytest.fixture(scope="module")
def ladder():
    evidence = evidence_of(STUDY, EFFECTS, spread=0.03, metrics=(LOSS, BLIND, ACCURACY, STEP_TIME))
    return climb(STUDY, evidence, demo())


def test_effects_are_recovered_with_their_intervals(ladder):
    for rung, size in (("samples_050", 0.4), ("samples_200", -0.3), ("positive_control", 2.0)):
        found = ladder.metrics[LOSS].effects[rung]
        assert found.mean == pytest.approx(size, abs=0.06)
        assert found.low < found.mean < found.high
        assert found.num_seeds == 4


def test_noise_of_paired_differences_lacks_what_seeds_share(ladder):
    seen = ladder.metrics[LOSS]
    assert seen.paired_sd == pytest.approx(0.03 * np.sqrt(2), rel=0.5)
    assert seen.seed_sd > 2 * seen.paired_sd


def test_metrics_that_see_the_small_step_decide(ladder):
    judged = sensitivity_of(ladder)
    assert {metric: one.tells_small_steps for metric, one in judged.items()} == {
        LOSS: True,
        BLIND: False,
        ACCURACY: True,
        STEP_TIME: True,
    }


def test_rungs_with_failed_runs_are_left_out():
    complete = evidence_of(STUDY, EFFECTS, spread=0.03, metrics=(LOSS,))
    failed = replace(complete, missing=evidence_from([], [], missing=[("samples_050", 9, True)]).missing)
    seen = climb(STUDY, failed, demo()).metrics[LOSS]
    assert "samples_050" not in seen.effects
    assert not sensitivity_of(climb(STUDY, failed, demo()))[LOSS].tells_small_steps


def test_without_two_seeds_nothing_is_measured():
    evidence = evidence_of(STUDY, EFFECTS, spread=0.03, metrics=(LOSS,), seeds=[0])
    assert climb(STUDY, evidence, demo()).metrics == {}


def test_the_items_part_of_the_error_is_that_of_the_items():
    """Items differ from arm to arm, alike in all seeds, so the standard error over them has a closed form."""
    evidence = evidence_of(STUDY, EFFECTS, spread=0.03, metrics=(LOSS,))
    values, rng, num_items = evidence.values(LOSS), np.random.default_rng(0), 500
    part_A = {arm: pd.Series(rng.normal(0, 0.3, num_items)) for arm in values}
    parts = {(arm, seed): part_A[arm] for arm in values for seed in values[arm].dropna().index}
    found = climb(STUDY, replace(evidence, items=ItemMoments(lambda metric: parts)), demo()).metrics[LOSS]
    squares = [float((part_A[rung] - part_A[STUDY.baseline]).var()) / num_items for rung in found.effects]
    assert len(squares) > 2
    assert found.items_error == pytest.approx(np.sqrt(np.mean(squares)))
    assert climb(STUDY, evidence, demo()).metrics[LOSS].items_error is None
