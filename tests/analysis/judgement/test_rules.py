"""Words against closed forms and t tests; aims against simulations of the verdicts themselves."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aimv2.ablations.claims import CLAIMS
from aimv2.analysis.inference.intervals import NO_ESTIMATE, Estimate, Noise, mean_interval, seeds_for
from aimv2.analysis.judgement.rules import Finding, Outcome, Word, aim_of, decide, finding, level_of, outcome

MARGIN, EFFECT = 0.02, 0.1
S, C, L, N, U = Word.SUPPORTED, Word.CONTRADICTED, Word.SMALLER, Word.NEGLIGIBLE, Word.UNDECIDED


def interval(low, high):
    """Return a difference in a metric where higher is better, with this 95 % interval and a normal t."""
    return Estimate((low + high) / 2, (high - low) / 2 / 1.95996398, 1e9, 10**9)


CASES = [
    # relation, interval of the difference, claimed effect, word, part of the qualification
    ("better", (0.03, 0.09), None, S, ""),
    ("better", (0.001, 0.01), None, S, "within the margin"),
    ("better", (-0.01, 0.01), None, N, "an effect of 0.02 is ruled out"),
    ("better", (-0.09, 0.01), None, N, "an effect of 0.02 is ruled out"),  # whatever there is in the other direction
    ("better", (-0.01, 0.01), EFFECT, N, "an effect of 0.02 is ruled out"),  # which says more than the claimed one
    ("better", (-0.01, 0.03), None, U, ""),
    ("better", (-0.09, -0.03), None, C, ""),
    ("better", (-0.01, -0.001), None, C, "within the margin"),
    ("better", (0.05, 0.15), EFFECT, S, ""),
    ("better", (0.03, 0.09), EFFECT, S, "smaller than the claimed 0.1"),
    ("better", (-0.01, 0.09), EFFECT, L, "0.1 is ruled out"),
    ("better", (-0.01, 0.11), EFFECT, U, ""),
    ("better", (-0.2, -0.03), EFFECT, C, ""),
    ("worse", (-0.09, -0.03), None, S, ""),
    ("worse", (0.03, 0.09), None, C, ""),
    ("worse", (-0.09, 0.01), EFFECT, L, ""),
    ("worse", (-0.01, 0.01), None, N, ""),
    ("far worse", (-0.09, -0.03), None, S, ""),
    ("far worse", (-0.09, -0.01), None, U, ""),
    ("far worse", (-0.015, -0.01), None, L, "0.02 is ruled out"),
    ("far worse", (-0.09, -0.03), EFFECT, S, "smaller than the claimed 0.1"),
    ("far worse", (-0.09, -0.01), EFFECT, L, "0.1 is ruled out"),
    ("far worse", (0.01, 0.09), EFFECT, C, ""),
    ("not better", (-0.5, 0.01), None, S, ""),
    ("not better", (0.001, 0.01), None, S, "there is an effect, within the margin"),
    ("not better", (0.01, 0.09), None, U, "perhaps within the margin"),
    ("not better", (-0.01, 0.09), None, U, ""),
    ("not better", (0.03, 0.09), None, C, ""),
    ("not worse", (-0.01, 0.5), None, S, ""),
    ("not worse", (-0.09, -0.03), None, C, ""),
    ("equal", (-0.01, 0.01), None, S, ""),
    ("equal", (0.001, 0.01), None, S, "there is a difference, within the margin"),
    ("equal", (0.01, 0.09), None, U, "perhaps within the margin"),
    ("equal", (-0.09, 0.09), None, U, ""),
    ("equal", (0.03, 0.09), None, C, ""),
    ("equal", (-0.09, -0.03), None, C, ""),
]


@pytest.mark.parametrize("lower_is_better", [False, True])
@pytest.mark.parametrize(("relation", "ends", "effect", "word", "qualification"), CASES)
def test_outcome_follows_from_the_interval(relation, ends, effect, word, qualification, lower_is_better):
    difference = interval(-ends[1], -ends[0]) if lower_is_better else interval(*ends)
    judged = outcome(relation, difference, MARGIN, effect, lower_is_better=lower_is_better)
    assert judged.word is word
    assert qualification in judged.qualification
    assert bool(judged.qualification) == bool(qualification) or word in (L, N)


def test_without_an_interval_nothing_is_testable():
    for relation in ("better", "worse", "far worse", "not better", "not worse", "equal"):
        assert outcome(relation, NO_ESTIMATE, MARGIN, lower_is_better=True).qualification == "not measured"
        one_seed = outcome(relation, mean_interval(np.array([1.0])), MARGIN, lower_is_better=True)
        assert (one_seed.word, one_seed.qualification) == (Word.NOT_TESTABLE, "too few seeds")
        no_spread = outcome(relation, mean_interval(np.array([1.0, 1.0])), MARGIN, lower_is_better=True)
        assert no_spread.qualification == "no spread over seeds"


@given(
    mean=st.floats(-0.2, 0.2),
    error=st.floats(0.001, 0.1),
    relation=st.sampled_from(["better", "worse", "far worse", "not better", "not worse", "equal"]),
    effect=st.sampled_from([None, 0.05]),
)
def test_relation_and_direction_turn_together(mean, error, relation, effect):
    """A metric of the other direction with the other sign says the same."""
    one = outcome(relation, Estimate(mean, error, 5, 6), MARGIN, effect, lower_is_better=True)
    assert one == outcome(relation, Estimate(-mean, error, 5, 6), MARGIN, effect, lower_is_better=False)


@given(
    shift=st.floats(-0.1, 0.1),
    spread=st.floats(0.001, 0.1),
    seed=st.integers(0, 99),
    lower_is_better=st.booleans(),
    level=st.sampled_from([0.95, 0.9875]),
)
def test_finding_agrees_with_three_t_tests(shift, spread, seed, lower_is_better, level):
    values = np.random.default_rng(seed).normal(shift, spread, 5)
    alpha = 1 - level
    is_different = stats.ttest_1samp(values, 0).pvalue < alpha
    is_below = stats.ttest_1samp(values, MARGIN, alternative="less").pvalue < alpha
    is_above = stats.ttest_1samp(values, -MARGIN, alternative="greater").pvalue < alpha
    found = finding(mean_interval(values, level), MARGIN, lower_is_better=lower_is_better)
    side = "better" if (values.mean() < 0) == lower_is_better else "worse"
    assert found.direction == (side if is_different else "unclear")
    assert (found.is_not_worse if lower_is_better else found.is_not_better) == is_below
    assert (found.is_not_better if lower_is_better else found.is_not_worse) == is_above
    words = {
        (False, False): "inconclusive",
        (False, True): "equivalent",
        (True, False): side,
        (True, True): f"{side}, within the margin",
    }
    assert found.text == words[is_different, is_below and is_above]


def test_no_interval_and_no_margin_show_nothing():
    nothing = Finding("unclear", is_not_better=False, is_not_worse=False)
    assert finding(NO_ESTIMATE, MARGIN, lower_is_better=True) == nothing
    assert finding(mean_interval(np.array([1.0])), 2, lower_is_better=True) == nothing
    assert finding(Estimate(0.0, 1e-9, 3, 4), 0, lower_is_better=True).text == "inconclusive"


LEVEL = 0.975


def share_supported(relation, true, num_seeds, *, margin, effect, sd, num=4000):
    """Simulate differences, and return how often the relation is supported."""
    rng, supported = np.random.default_rng(0), 0
    for _ in range(num):
        estimate = mean_interval(rng.normal(true, sd, num_seeds), LEVEL)
        supported += outcome(relation, estimate, margin, effect, lower_is_better=False).word is Word.SUPPORTED
    return supported / num


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("relation", "true", "margin", "effect"),
    [
        ("better", 0.02, 0.05, 0.02),
        ("worse", -0.03, 0.03, None),  # without a claimed effect, one of the margin's size
        ("far worse", -0.05, 0.03, 0.05),
        ("not worse", 0.0, 0.02, None),
        ("not better", 0.0, 0.02, 0.01),
        ("equal", 0.0, 0.02, None),
    ],
)
def test_that_many_seeds_support_a_true_relation_four_times_in_five(relation, true, margin, effect):
    sd = 0.04
    seeds = int(seeds_for(Noise(sd), aim_of(relation, margin, effect, LEVEL)))
    assert 10 < seeds < 200
    few = share_supported(relation, true, seeds - 5, margin=margin, effect=effect, sd=sd)
    enough = share_supported(relation, true, seeds, margin=margin, effect=effect, sd=sd)
    assert enough == pytest.approx(0.8, abs=0.025)
    assert few < enough


def test_an_effect_within_the_margin_is_never_far_worse():
    assert math.isnan(seeds_for(Noise(0.04), aim_of("far worse", 0.05, 0.05, LEVEL)))
    assert math.isnan(seeds_for(Noise(0.04), aim_of("better", 0.0, None, LEVEL)))
    assert seeds_for(Noise(0.0), aim_of("better", 0.1, None, LEVEL)) == 2


OUTCOMES = st.lists(st.sampled_from([Outcome(word) for word in (S, C, L, N, U)]), min_size=1, max_size=4)


@given(outcomes=OUTCOMES, claim=st.sampled_from(["alpha-insensitive", "prefix-beats-bidirectional-for-captioning"]))
def test_a_claim_is_what_its_expectations_say(outcomes, claim):
    """Oracle: the rule in docs/statistics.md, in the order of its words."""
    enough = all if CLAIMS[claim].contradicted_by == "all" else any
    words = [outcome.word for outcome in outcomes]
    expected = U
    if enough(word in (C, L, N) for word in words):
        expected = N
    if enough(word in (C, L) for word in words):
        expected = L
    if enough(word is C for word in words):
        expected = C
    if set(words) == {S}:
        expected = S
    assert decide(claim, LEVEL, lambda level: outcomes)[0] is expected


def test_what_decided_claims_leave_is_shared_by_the_others():
    num = sum(bool(claim.studies) for claim in CLAIMS.values())
    assert 1 - level_of(0.95) == pytest.approx(0.05 / num)
    assert 1 - level_of(0.95, num_decided=3) == pytest.approx(0.05 / (num - 3))
    assert 1 - level_of(0.95, num_decided=num) == pytest.approx(0.05)
