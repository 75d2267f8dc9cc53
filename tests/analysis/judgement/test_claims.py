"""Answers to claims from several reports, with findings of chosen verdicts."""

import math
from dataclasses import replace

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.expand import Cell
from aimv2.ablations.expectations import READER, default_margin
from aimv2.ablations.request import Request
from aimv2.analysis.inference.intervals import Noise, seeds_for
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.claims import DISAGREE, NOT_RUN, Answer, answers_of, overall
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.rules import Word, aim_of
from aimv2.analysis.judgement.verdicts import verdicts
from aimv2.config.recipes.scales import demo
from tests.helpers.evidence import evidence_of, sensitive, trusted

CLAIM = CLAIMS["both-losses-beat-text-only"]  # judged by loss_weight, encoder_attention and objective
BEST = {"loss_weight": "alpha_04", "encoder_attention": "prefix_both", "objective": "aimv2"}
METRICS = (READER, "content_loss")


def found(slug, effect, spread=0.0002, noise=None):
    """Return findings of a study in which the arm with both losses is better by an effect.

    Args:
        noise: of the sensitivity study; ``spread`` by default.
    """
    study = STUDIES[slug]
    evidence = evidence_of(study, {(BEST[slug], READER): -effect}, spread=spread, metrics=METRICS)
    evidence = replace(
        evidence, runs=evidence.runs.assign(run=evidence.runs["arm"] + evidence.runs["seed"].astype(str))
    )
    reasons = trusted(study, evidence, sensitivity=sensitive(*METRICS, noise=Noise(noise or spread)))
    request = Request(study=study, cells=[Cell(arm=study.baseline, seed=0, config=demo())], arguments=())
    return Findings(request, Look(1), None, reasons, comparisons={}, verdicts=verdicts(reasons, demo()))


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
    assert (answer.word, answer.study, answer.verdict) == ("beyond reach", "", None)
    assert answer.claim.why_not


@pytest.mark.parametrize(
    ("effects", "word"),
    [
        ({}, NOT_RUN),
        ({"objective": 0.1}, Word.SUPPORTED),
        ({"objective": 0.1, "loss_weight": 0.1}, Word.SUPPORTED),
        ({"objective": 0.1, "loss_weight": -0.1}, DISAGREE),
        ({"objective": -0.1}, Word.CONTRADICTED),
        ({"objective": 0.0}, Word.UNDECIDED),
    ],
)
def test_the_word_for_a_claim_is_that_of_the_studies_that_decide(effects, word):
    assert overall(answers_of(CLAIM, {slug: found(slug, effect) for slug, effect in effects.items()})) == word


def test_only_undecided_claims_ask_for_seeds():
    """At the next look, with an equal share of the error rate for each claim and for each of its three studies.

    The noise is the larger of that of the sensitivity study and that of the claim's own difference.
    """
    decided, undecided, undecided_by_noise = answers_of(
        CLAIM,
        {
            "loss_weight": found("loss_weight", 0.1),
            "encoder_attention": found("encoder_attention", 0.0, spread=0.1, noise=0.5),
            "objective": found("objective", 0.0, spread=0.1, noise=0.01),
        },
    )
    assert math.isnan(decided.seeds_to_decide)
    num_claims = sum(bool(claim.studies) for claim in CLAIMS.values())
    aim = aim_of("better", default_margin(READER), None, 1 - 0.05 / 4 / (3 * num_claims))
    assert undecided.seeds_to_decide == seeds_for(Noise(0.5), aim)
    (judged,) = undecided_by_noise.verdict.comparisons
    spread = math.sqrt(4) * judged.difference.error  # of four seeds
    assert spread == pytest.approx(0.1 * math.sqrt(2), rel=0.2)
    assert undecided_by_noise.seeds_to_decide == seeds_for(Noise(spread), aim)


@pytest.mark.parametrize(
    ("own", "parts", "word"),
    [
        ("supported", [], "supported"),
        ("supported", ["supported"], "supported"),
        ("supported", ["supported", "undecided"], "undecided"),
        ("supported", ["contradicted", "undecided"], "contradicted"),
        ("supported", ["smaller than claimed"], "smaller than claimed"),
        ("supported", ["not testable"], "supported"),
        ("undecided", ["contradicted"], "contradicted"),
        ("undecided", ["supported"], "undecided"),
        ("contradicted", ["supported"], "contradicted"),
        ("not testable", ["contradicted"], "not testable"),
    ],
)
def test_a_claim_counts_with_its_parts(own, parts, word):
    whole = CLAIMS["prefix-beats-causal"]
    others = [CLAIMS["prefix-without-mask-is-best"], CLAIMS["prefix-beats-causal-probe"]]

    class Said(Answer):
        word = property(lambda self: self.report)

    answers = [Said(whole, report=own), *(Said(one, report=said) for one, said in zip(others, parts, strict=False))]
    assert overall(answers) == word
