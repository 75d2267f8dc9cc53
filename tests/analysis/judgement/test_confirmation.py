import pytest

from aimv2.ablations.study import WINNER
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.confirmation import conclusion, result
from aimv2.analysis.judgement.findings import judge
from aimv2.config.recipes.scales import demo
from tests.helpers.evidence import evidence_from, evidence_of, sensitive
from tests.helpers.searches import parsed, request_of_search, search_of, trial

BEST = "The search's own best value, content\\_loss 1.500 nats/token on the validation split, is not the result"
SEEN = sensitive("content_loss")


@pytest.fixture(scope="module")
def search():
    return parsed(search_of([trial(n, values=[value]) for n, value in enumerate([3.0, 2.0, 1.5])]))


def confirmed(effect, search, *, spread=0.005, seen=SEEN, has_winner=True, evidence=None, seeds=range(4)):
    """Return the findings of a confirmation in which the winner differs by an effect."""
    request = request_of_search(demo(), has_winner=has_winner, seeds=seeds)
    if evidence is None:
        evidence = evidence_of(request.study, {WINNER: effect}, spread=spread, seeds=seeds)
    return judge(request, evidence, Look(1), seen, search)


@pytest.mark.parametrize(
    ("effect", "spread", "expected", "words"),
    [
        (
            -0.2,
            0.005,
            "confirmed",
            "Confirmed: on 4 fresh seeds *trial 3: optimizer.peak_lr = 0.002* is better than the",
        ),
        (0.2, 0.005, "not confirmed", "Not confirmed: on 4 fresh seeds *trial 3: optimizer.peak_lr = 0.002* is worse"),
        (
            0.0,
            0.002,
            "not confirmed",
            "is equivalent to the baseline (*uniform on 1..I-1*) in content_loss within ±0.02",
        ),
        (0.0, 0.5, "not confirmed", "does not differ detectably from the baseline"),
    ],
)
def test_result_is_that_of_the_interval_on_fresh_seeds(search, effect, spread, expected, words):
    found = confirmed(effect, search, spread=spread)
    difference = found.comparisons[WINNER].difference
    assert (difference.high < 0) == (expected == "confirmed"), "lower is better"
    text = conclusion(found)
    assert result(found) == expected
    assert words in text
    assert "This is the confirmation of a search of 3 trials." in text
    assert BEST in text
    assert "winner's curse" in text


def test_amount_and_interval_are_those_of_the_comparison(search):
    found = confirmed(-0.2, search)
    one = found.comparisons[WINNER].difference
    amount = f"by {-one.mean:.3f} nats/token (97.5 % interval {-one.high:.3f} to {-one.low:.3f}, covers seeds)"
    assert amount in conclusion(found)


def test_metric_whose_sensitivity_was_not_measured_gives_no_verdict_but_the_difference(search):
    found = confirmed(-0.2, search, seen={})
    text, difference = conclusion(found), found.comparisons[WINNER].difference
    assert result(found) == "no conclusion"
    assert text.startswith("No conclusion: the sensitivity was not measured on this base run.")
    assert f"is {difference.text()} nats/token" in text
    assert "which is no verdict" in text
    assert BEST in text


def test_runs_of_different_code_have_no_difference(search):
    request = request_of_search(demo(), seeds=range(4))
    evidence = evidence_of(request.study, {WINNER: -0.2}, spread=0.005)
    evidence.runs["code"] = ["a" * 12, "b" * 12] * (len(evidence.runs) // 2)
    evidence.runs["run"] = [f"v2-{number}" for number in range(len(evidence.runs))]
    found = confirmed(0, search, evidence=evidence)
    assert result(found) == "no conclusion"
    assert conclusion(found).startswith("No conclusion: the runs are of 2 codes. This is the confirmation")


def test_failed_runs_are_no_confirmation(search):
    request = request_of_search(demo(), seeds=range(4))
    whole = evidence_of(request.study, {WINNER: -0.2}, spread=0.005)
    is_lost = (whole.runs["arm"] == WINNER) & (whole.runs["seed"] == 3)
    rows = whole.metrics[~((whole.metrics["arm"] == WINNER) & (whole.metrics["seed"] == 3))]
    evidence = evidence_from(whole.runs[~is_lost].to_dict("records"), rows.to_numpy().tolist(), [(WINNER, 3, True)])
    found = confirmed(0, search, evidence=evidence)
    assert result(found) == "no conclusion"
    assert "No conclusion: 1 of 4 runs of trial 3: optimizer.peak_lr = 0.002 failed." in conclusion(found)
    assert "which is no verdict" not in conclusion(found)


def test_confirmation_that_has_not_run_says_what_to_do(search):
    found = confirmed(0, search, evidence=evidence_from([], []))
    assert result(found) == "no conclusion"
    assert "does not share two finished seeds with the baseline yet. Launch the same command again" in conclusion(found)


@pytest.mark.parametrize(
    ("values", "has_winner", "words"),
    [
        (search_of([trial(0, "failed"), trial(1, "pruned")]), False, "none of the 2 trials finished"),
        (search_of([trial(0, "failed")]), False, "its only trial did not finish"),
        (search_of([]), False, "the search has no trial"),
        (search_of([trial(0)], winner=None), False, "the search names none of its 1 trials as its winner"),
        (
            search_of([trial(0)], is_baseline=True),
            False,
            "The baseline won: the best of 1 finished trial of 1, trial 0, is the baseline itself",
        ),
        (search_of([trial(0)]), False, "Not confirmed yet: the best of 1 finished trial of 1, trial 0"),
    ],
)
def test_search_without_another_winner_says_so_in_one_sentence(values, has_winner, words):
    found = confirmed(0, parsed(values), has_winner=has_winner)
    text = conclusion(found)
    assert result(found) == "no winner"
    assert words in text
    assert text.count(". ") == 0
