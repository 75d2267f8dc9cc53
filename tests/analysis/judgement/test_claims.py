"""Answers to claims from several reports, with findings of chosen verdicts."""

import math
from dataclasses import replace

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.expand import Cell
from aimv2.ablations.expectations import INK, READER, default_margin
from aimv2.ablations.request import Request
from aimv2.analysis.inference.intervals import Noise, seeds_for
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.claims import DISAGREE, NOT_RUN, Answer, answers_of, overall
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.rules import Word, aim_of
from aimv2.analysis.judgement.verdicts import verdicts
from aimv2.config.recipes.scales import demo
from tests.helpers.evidence import evidence_of, sensitive, trusted

CLAIM = CLAIMS["both-losses-beat-text-only"]  # judged by loss_weight
METRICS = (READER, INK)


def found(effect, spread=0.0002, noise=None):
    """Return findings in which the arm with both losses is better by an effect, by both readouts.

    Args:
        noise: of the sensitivity study; ``spread`` by default.
    """
    study = STUDIES["loss_weight"].with_margins({INK: default_margin(READER)})
    effects = {("alpha_04", READER): -effect, ("alpha_04", INK): effect}
    evidence = evidence_of(study, effects, spread=spread, metrics=METRICS)
    evidence = replace(
        evidence, runs=evidence.runs.assign(run=evidence.runs["arm"] + evidence.runs["seed"].astype(str))
    )
    reasons = trusted(study, evidence, sensitivity=sensitive(*METRICS, noise=Noise(noise or spread)))
    request = Request(study=study, cells=[Cell(arm=study.baseline, seed=0, config=demo())], arguments=())
    return Findings(request, Look(1, 4), None, reasons, comparisons={}, verdicts=verdicts(reasons, demo()))


def test_reports_of_the_study_answer_and_without_one_it_says_so():
    answers = answers_of(CLAIM, {"prefix_ratio": found(0.1), "loss_weight_laptop": found(0.0)})
    assert [(one.study, one.report, one.word) for one in answers] == [
        ("loss_weight", "prefix_ratio", "supported"),  # whatever the folder is called
        ("loss_weight", "loss_weight_laptop", "negligible"),
    ]
    assert answers[0].runs == tuple(f"{arm}{seed}" for arm in ("alpha_00", "alpha_04") for seed in range(4))
    (absent,) = answers_of(CLAIM, {})
    assert (absent.study, absent.report, absent.word, absent.runs) == ("loss_weight", "", NOT_RUN, ())


def test_a_claim_without_a_study_has_its_reason():
    (answer,) = answers_of(CLAIMS["lit-zero-shot"], {"loss_weight": found(0.1)})
    assert (answer.word, answer.study, answer.verdict) == ("beyond reach", "", None)
    assert answer.claim.why_not


@pytest.mark.parametrize(
    ("effects", "word"),
    [
        ([], NOT_RUN),
        ([0.1], Word.SUPPORTED),
        ([0.1, 0.1], Word.SUPPORTED),
        ([0.1, -0.1], DISAGREE),
        ([0.1, 0.0], DISAGREE),
        ([-0.1], Word.CONTRADICTED),
        ([0.0], Word.NEGLIGIBLE),
    ],
)
def test_the_word_for_a_claim_is_that_of_the_reports_that_decide(effects, word):
    assert overall(answers_of(CLAIM, {str(number): found(effect) for number, effect in enumerate(effects)})) == word


def test_only_undecided_claims_ask_for_seeds():
    """At a look at 16 seeds after one at 4, with an equal share of the error rate for each claim.

    The noise is the larger of that of the sensitivity study and that of the claim's own difference.
    """
    reports = {"a": found(0.1), "b": found(0.0, spread=0.1, noise=0.5), "c": found(0.0, spread=0.1, noise=0.01)}
    decided, undecided, undecided_by_noise = answers_of(CLAIM, reports)
    assert math.isnan(decided.seeds_to_decide)
    num_claims = sum(bool(claim.studies) for claim in CLAIMS.values())
    aim = aim_of("better", default_margin(INK), None, 1 - 0.05 * (0.5 - 0.1) / num_claims)
    assert undecided.seeds_to_decide == seeds_for(Noise(0.5), aim)
    (by_ink,) = (one for one in undecided_by_noise.verdict.comparisons if one.expected.is_second)  # the smaller margin
    spread = math.sqrt(4) * by_ink.difference.error
    assert spread == pytest.approx(0.1 * math.sqrt(2), rel=0.4)
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
