"""The answer of a study, from evidence with known effects."""

from dataclasses import replace

import pytest

from aimv2.analysis.inference.intervals import NO_ESTIMATE
from aimv2.analysis.judgement.classes import Parts
from aimv2.analysis.sections.answer import MAX_WORDS, answer
from tests.helpers.documents import judged_again
from tests.helpers.evidence import evidence_from, evidence_of
from tests.helpers.specimen import STUDY

SHUFFLED = {"positive_control": 1.0}


def told(findings, effects, *, spread=0.001, shuffled=1.0):
    evidence = evidence_of(
        STUDY,
        {"positive_control": shuffled, **effects},
        spread=spread,
        metrics=("content_loss", "causal_content_loss"),
    )
    found = answer(judged_again(findings, evidence))
    assert len(found.split()) <= MAX_WORDS
    return found


def test_the_largest_difference_is_told_with_its_direction(findings):
    found = told(findings, {"causal": 0.5, "fixed_25": -0.2})
    assert found.startswith("*Causal* is worse than *uniform on 1..I-1* by 0.5 nats/token; 2 of 4 arms differ.")
    found = told(findings, {"causal": 0.2, "fixed_25": -0.7})
    assert found.startswith("*Fixed at 25 %* is better than *uniform on 1..I-1* by 0.7 nats/token")


def test_the_words_that_make_up_most_of_it_are_named(findings):
    parts = Parts(NO_ESTIMATE, {}, {}, most=("place",), rest=NO_ESTIMATE)
    comparisons = {arm: replace(one, parts=parts) for arm, one in findings.comparisons.items()}
    found = answer(replace(findings, comparisons=comparisons))
    assert " nats/token, mostly in place words; " in found
    assert len(found.split()) <= MAX_WORDS


def test_arms_that_are_equal_are_told_from_arms_that_are_not_told_apart(findings):
    assert told(findings, {}).startswith("No arm matters: ")
    assert told(findings, {}, spread=0.3).startswith("Not decided: no arm clearly differs")
    margin = findings.study.primary_margin
    found = told(findings, {"causal": 0.6 * margin}, spread=0.3 * margin)
    assert found.startswith("In held-out loss of content words, 3 of 4 arms are within the margin of ")
    assert "; the others are within 0.02" in found


def test_a_control_that_did_not_pass_leaves_no_answer(findings):
    found = told(findings, {"causal": 0.5}, shuffled=0.0)
    assert found == "Nothing is concluded, because positive control failed in content_loss."


@pytest.mark.parametrize("seeds", [1, 0])
def test_without_two_seeds_nothing_is_compared(findings, seeds):
    evidence = evidence_of(STUDY, SHUFFLED, spread=0.01, seeds=range(seeds)) if seeds else evidence_from([], [])
    assert answer(judged_again(findings, evidence)).startswith("Nothing is compared yet")
