"""Answers to claims from several reports, with findings of chosen verdicts."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ablations.catalogue import STUDIES
from ablations.claims import CLAIMS
from ablations.expectations import PROBE, Ranges, expect
from ablations.request import Request
from analysis.inference.intervals import NO_ESTIMATE, Estimate, detectable_difference
from analysis.inference.looks import Look
from analysis.inference.ranges import Bracket
from analysis.inference.relations import Outcome, Word
from analysis.judgement.claims import (
    DISAGREE,
    NOT_RUN,
    answers_of,
    overall,
    seeds_in_words,
    seeds_to_decide,
)
from analysis.judgement.findings import Findings
from analysis.judgement.verdicts import Judged, verdicts
from tests.helpers.evidence import evidence_of, passed_controls, sensitive

CLAIM = CLAIMS["both-losses-beat-text-only"]  # judged by loss_weight, encoder_attention and objective
BEST = {"loss_weight": "alpha_04", "encoder_attention": "prefix_both", "objective": "aimv2"}
METRICS = (PROBE, "content_loss")


def found(slug, effect, spread=0.0002):
    """Return findings of a study in which the arm with both losses is better by an effect."""
    study = STUDIES[slug]
    evidence = evidence_of(study, {(BEST[slug], PROBE): effect}, spread=spread, metrics=METRICS)
    evidence = replace(
        evidence, runs=evidence.runs.assign(run=evidence.runs["arm"] + evidence.runs["seed"].astype(str))
    )
    controls, sensitivity = passed_controls(study), sensitive(*METRICS)
    judged = verdicts(study, evidence, controls=controls, sensitivity=sensitivity, scale="demo")
    request = Request(study=study, cells=[], arguments=())
    return Findings(
        study=study, request=request, evidence=evidence, look=Look(1), ladder=None, sensitivity=sensitivity,
        comparisons={}, controls=controls, verdicts=judged,
    )  # fmt: skip


def test_studies_answer_in_the_order_of_the_claim_and_those_without_a_report_say_so():
    answers = answers_of(CLAIM, {"objective": found("objective", 0.1), "prefix_ratio": found("loss_weight", 0.1)})
    assert [(one.study, one.report, one.word) for one in answers] == [
        ("loss_weight", "prefix_ratio", "supported"),  # whatever the folder is called
        ("encoder_attention", "", NOT_RUN),
        ("objective", "objective", "supported"),
    ]
    assert answers[0].runs == tuple(f"{arm}{seed}" for arm in ("alpha_00", "alpha_04") for seed in range(4))
    assert answers[1].runs == ()


def test_a_claim_without_a_study_has_its_reason():
    (answer,) = answers_of(CLAIMS["lit-zero-shot"], {"objective": found("objective", 0.1)})
    assert (answer.word, answer.study, answer.verdict) == ("not testable", "", None)
    assert answer.claim.why_not


@pytest.mark.parametrize(
    ("effects", "word"),
    [
        ({}, NOT_RUN),
        ({"objective": 0.1}, Word.SUPPORTED),
        ({"objective": 0.1, "loss_weight": 0.1}, Word.SUPPORTED),
        ({"objective": 0.1, "loss_weight": -0.1}, DISAGREE),
        ({"objective": -0.1}, Word.CONTRADICTED),
        ({"objective": 0.0}, Word.SMALLER),  # 0.002 is ruled out
    ],
)
def test_the_word_for_a_claim_is_that_of_the_studies_that_decide(effects, word):
    assert overall(answers_of(CLAIM, {slug: found(slug, effect) for slug, effect in effects.items()})) == word


def test_only_undecided_claims_ask_for_seeds():
    decided, _, undecided = answers_of(
        CLAIM, {"loss_weight": found("loss_weight", 0.1), "objective": found("objective", 0.0, spread=0.1)}
    )
    assert math.isnan(decided.seeds_to_decide)
    assert undecided.seeds_to_decide > 999, "an effect of 0.002 at a spread of 0.1"
    (some,) = [
        one
        for one in answers_of(CLAIM, {"objective": found("objective", 0.0, spread=0.004)})
        if one.study == "objective"
    ]
    assert 20 < some.seeds_to_decide < 200


def judged(difference, **values):
    (expected,) = expect("a", "better", than="b", metric=PROBE, **values)
    return Judged(expected, difference, Outcome(Word.UNDECIDED))


def test_seeds_that_decide_detect_the_claimed_effect_at_the_next_look_and_one_fewer_do_not():
    """The oracle is the minimum detectable difference at that many seeds and half the error rate of 0.1."""
    sd, effect = 0.02, 0.01
    seeds = seeds_to_decide(judged(Estimate(0.0, sd / 2, 3, 4, 0.9), effect=effect), margin=0.5)

    def detectable(n):
        return detectable_difference(Estimate(0.0, sd / np.sqrt(n), n - 1, n, 0.95))

    assert detectable(seeds) <= effect < detectable(seeds - 1)


def test_more_seeds_do_not_reduce_the_items_part_of_the_error():
    """With many seeds, 0.01 is detected if it is 2.8 times the error, at 5 % and 80 % power."""
    seeds_only = seeds_to_decide(judged(Estimate(0.0, 0.01, 3, 4, 0.9), effect=0.01), 0.5)
    some, all_of_it = (
        Estimate(0.0, math.hypot(0.01, items), 5, 4, 0.9, covers="seeds and items", items_error=items)
        for items in (0.003, 0.0036)
    )
    assert seeds_only < seeds_to_decide(judged(some, effect=0.01), 0.5) < math.inf
    assert seeds_to_decide(judged(all_of_it, effect=0.01), 0.5) == math.inf


def test_without_a_claimed_effect_the_margin_counts():
    estimate = Estimate(0.0, 0.01, 3, 4)
    assert seeds_to_decide(judged(estimate), 0.01) == seeds_to_decide(judged(estimate, effect=0.01), 0.5)
    assert math.isnan(seeds_to_decide(judged(estimate), 0.0)), "there is nothing to detect"
    assert math.isnan(seeds_to_decide(judged(NO_ESTIMATE), 0.1))


def test_bounds_of_ranges_shrink_with_the_root_of_the_seeds():
    """Half the effect takes four times the seeds, but for the degrees of freedom."""
    ranges = Ranges(metric=PROBE, name="widths", than_name="depths", range_arms=("a", "b"), than_arms=("a", "c"))
    bracket = Bracket(0.0, -0.04, 0.04, 40)
    one, half = (seeds_to_decide(Judged(ranges, bracket, Outcome(Word.UNDECIDED)), size) for size in (0.02, 0.01))
    assert half == pytest.approx(4 * one, rel=0.03)
    # (2.50 + 0.84) errors of 0.04 / 2.24 at one seed, for 2 contrasts at 97.5 %
    assert one == pytest.approx(40 * (0.04 / 2.2414 * (2.4977 + 0.8416) / 0.02) ** 2, rel=0.03)


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        (math.nan, ""),
        (17.0, "About 17 seeds would decide it."),
        (1000.0, "More than 999 seeds are needed."),
        (math.inf, "No number of seeds decides it: the error from the choice of evaluation items alone is too large."),
    ],
)
def test_seeds_in_words(seeds, words):
    assert seeds_in_words(seeds) == words
