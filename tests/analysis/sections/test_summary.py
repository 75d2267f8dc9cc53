"""What everybody reads of a study, from evidence with known effects."""

from dataclasses import replace

import pytest

from aimv2.analysis.sections import summary
from tests.helpers.documents import by_row, judged_again, tables, text_of
from tests.helpers.evidence import evidence_from, evidence_of
from tests.helpers.specimen import STUDY


def with_effects(findings, effects, spread):
    """Return findings from runs as before, whose losses have these effects."""
    evidence = evidence_of(STUDY, effects, spread=spread, metrics=("content_loss", "causal_content_loss"))
    return judged_again(findings, replace(evidence, runs=findings.evidence.runs))


def sections_of(found):
    return {section.title: section for section in summary.sections(found)}


def test_arms_and_verdicts_have_the_numbers_of_the_findings(findings):
    found = sections_of(findings)
    arms = by_row(tables(found["Arms"])["arms"])
    assert set(arms) == {STUDY.label(arm) for arm in STUDY.conditions}
    for arm, one in findings.comparisons.items():
        row = arms[STUDY.arms[arm].label]
        assert row["difference [interval]"] == (one.difference.text("+.4f"),)
        assert row["observed"][0] == one.observed.text
    rows = by_row(tables(found["Claims of the paper"])["verdicts"])
    for name, verdict in findings.verdicts.items():
        row = rows[f"**{name}**"]
        assert row["verdict at this scale"][0] == f"**{verdict.word}**"
        why = verdict.qualifications[0] if verdict.word == "not testable" else verdict.comparisons[0].difference.text()
        assert why in row["what decides"][0]


def test_without_its_controls_a_study_shows_differences_and_no_verdict(findings):
    judged = with_effects(findings, {"causal": 0.5}, 0.001)
    found = sections_of(judged)
    rows = by_row(tables(found["Arms"])["arms"])
    for arm, one in judged.comparisons.items():
        row = rows[STUDY.arms[arm].label]
        assert row["difference [interval]"] == (one.difference.text("+.4f"),)
        assert row["observed"] == (one.shows, "not judged: a control did not pass")
    assert "Positive control failed in content_loss." in text_of(found["What was not seen"])


def test_what_is_missing_is_said_once_with_the_command_that_measures_it(findings):
    unknown = judged_again(findings, findings.evidence, seen={})
    found = sections_of(replace(unknown, unmeasured="the sensitivity of content_loss was not measured"))
    assert text_of(found["What is missing"]) == (
        "The sensitivity of content_loss was not measured, so verdicts that need it are withheld. This command measures"
        " it beside the study, and writes this report again:"
        " `python sweeps/launch.py sweep=prefix_ratio 'sweep.arms=[uniform,causal]' scale=test sensitivity=auto`."
    )
    assert next(iter(found)) == "What is missing", "it comes first"
    assert "sensitivity" not in text_of(found["What was not seen"])
    assert "What is missing" not in sections_of(findings)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("scale=test", "sensitivity=auto"), "scale=test sensitivity=auto`."),
        (("start.weights=runs/a",), "start.weights=runs/a sensitivity=auto`."),
    ],
)
def test_the_command_repeats_no_argument(findings, arguments, expected):
    request = replace(findings.request, arguments=("sweep=prefix_ratio", *arguments))
    found = sections_of(replace(findings, request=request, unmeasured="something is not known"))
    assert text_of(found["What is missing"]).endswith(f"`python sweeps/launch.py sweep=prefix_ratio {expected}")


def told(findings, effects, *, spread=0.001, shuffled=1.0):
    found = summary.answer(with_effects(findings, {"positive_control": shuffled, **effects}, spread))
    assert len(found.split()) <= summary.MAX_WORDS
    return found


def test_the_largest_difference_is_told_with_its_direction(findings):
    found = told(findings, {"causal": 0.5, "fixed_25": -0.2})
    assert found.startswith("*Causal* is worse than *uniform on 1..I-1* by 0.5 nats/token; 2 of 4 arms differ.")
    found = told(findings, {"causal": 0.2, "fixed_25": -0.7})
    assert found.startswith("*Fixed at 25 %* is better than *uniform on 1..I-1* by 0.7 nats/token")


def test_failed_controls_equal_arms_and_arms_that_are_not_told_apart_have_their_answer(findings):
    failed = told(findings, {"causal": 0.5}, shuffled=0.0)
    assert failed == "Nothing is concluded, because positive control failed in content_loss."
    assert told(findings, {}).startswith("No arm matters: ")
    assert told(findings, {}, spread=0.3).startswith("Not decided: no arm clearly differs")
    margin = findings.study.primary_margin
    found = told(findings, {"causal": 0.6 * margin}, spread=0.16 * margin)
    assert found.startswith("In held-out loss of content words, 3 of 4 arms are within the margin of ")
    assert "; the others are within 0.02" in found


@pytest.mark.parametrize("seeds", [1, 0])
def test_without_two_seeds_nothing_is_compared(findings, seeds):
    evidence = (
        evidence_of(STUDY, {"positive_control": 1.0}, spread=0.01, seeds=range(seeds))
        if seeds
        else evidence_from([], [])
    )
    assert summary.answer(judged_again(findings, evidence)).startswith("Nothing is compared yet")
