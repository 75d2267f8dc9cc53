"""The methods paragraph says what was done: its numbers come from closed forms, and change with the findings."""

from dataclasses import replace

from aimv2.ablations.claims import FILE
from aimv2.ablations.study import WINNER
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.findings import judge
from aimv2.analysis.sections.methods import section
from tests.helpers.documents import judged_again, text_of
from tests.helpers.evidence import evidence_from, evidence_of, sensitive
from tests.helpers.searches import (
    parsed,
    request_of_search,
    typical,
)
from tests.helpers.specimen import STUDY

ARMS = ("uniform", "fixed_25", "fixed_50", "fixed_75", "causal")


def missing(evidence, arm, seed, *, has_failed):
    """Return the evidence with one run less."""

    def without(table):
        return table[(table["arm"] != arm) | (table["seed"] != seed)]

    lost = evidence_from([], [], [(arm, seed, has_failed)]).missing
    return replace(evidence, runs=without(evidence.runs), metrics=without(evidence.metrics), missing=lost)


def test_design_errors_and_levels_are_named_and_only_what_was_used_is_cited(findings):
    """Numbers that the committed reports do not have, from closed forms."""
    text, references = text_of(section(findings)), section(findings).blocks[-1].items
    assert "Of 32 runs, controls and untrained encoders included, 32 finished." in text, "(5 arms + 2 + 1) x 4"
    assert "one error for all arms (12 degrees of freedom)" in text, "(5 - 1)(4 - 1)"
    assert "the level 97.5 %: this is look 1" in text, "1 - 0.05 / 2"
    num_judged = FILE.read_text().count("\n  studies: [")
    assert f"each at {100 - 2.5 / num_judged:.2f} % (Bonferroni over all claims" in text, "each has one study"
    assert "Intervals cover seeds and not evaluation items" in text
    assert not any("Satterthwaite" in reference for reference in references), "there are no values of items"
    assert any("Dunnett" in reference for reference in references)
    no_claims = judged_again(findings, findings.evidence, study=replace(STUDY, claims={}))
    assert "claim" not in text_of(section(no_claims))
    failed = text_of(section(judged_again(findings, missing(findings.evidence, "causal", 0, has_failed=True))))
    assert "31 finished, and 1 failed (1 of causal (prefix of 1 patch))." in failed
    assert "Not judged: 1 of 4 runs of causal (prefix of 1 patch) failed." in failed


def test_intervals_that_cover_items_say_so(findings):
    def covering(arms):
        comparisons = {
            arm: replace(one, difference=replace(one.difference, covers="seeds and items")) if arm in arms else one
            for arm, one in findings.comparisons.items()
        }
        return text_of(section(replace(findings, comparisons=comparisons)))

    assert "All intervals treat evaluation items as random too" in covering(ARMS)
    assert "The intervals of fixed at 25 % treat evaluation items as random" in covering(["fixed_25"])
    assert "Satterthwaite 1946" in covering(["fixed_25"])


def test_arm_with_its_own_error_is_named(findings):
    spread = dict.fromkeys(ARMS, 0.001) | {"causal": 1.0}
    text = text_of(section(judged_again(findings, evidence_of(STUDY, {}, spread=spread))))
    assert "The paired differences of causal (prefix of 1 patch) from the baseline (n = 4 seeds)" in text
    assert "own standard error, because the spread of an arm was larger in an F test (levels 0.05, and 0.01" in text
    assert "share the error rate by Bonferroni" in text
    assert "The intervals of 3 comparisons hold simultaneously" in text
    assert "(9 degrees of freedom)" in text, "(4 - 1)(4 - 1): its error has left the pool"


def test_what_withholds_the_conclusion_is_said(findings):
    blind = text_of(section(judged_again(findings, findings.evidence, seen={})))
    assert "This was not shown for" in blind
    assert "Nothing is concluded in the primary metric: the sensitivity was not measured on this base run" in blind
    partly = text_of(section(judged_again(findings, findings.evidence, seen=sensitive("content_loss"))))
    assert r"This was shown for content\_loss, and not shown for causal\_content\_loss." in partly


def test_search_behind_an_arm_is_described(tiny):
    request, search = request_of_search(tiny, seeds=range(4)), parsed(typical())
    evidence = evidence_of(request.study, {WINNER: -0.2}, spread=0.01)
    text = text_of(section(judge(request, evidence, Look(1), sensitive("content_loss"), search)))
    pruned = sum(one["state"] == "pruned" for one in typical()["trials"])
    assert f"winner of a search of 24 trials, of which {pruned} were pruned (sampler `tpe`, pruner `asha`)" in text
    assert r"The search chose by content\_loss on the validation split, and did not use the seeds" in text
    assert "and the winner were fixed before the runs" in text
