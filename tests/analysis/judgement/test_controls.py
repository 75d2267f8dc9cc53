from dataclasses import replace

import pandas as pd
import pytest
from scipy import stats

from aimv2.ablations.study import WINNER, confirmation
from aimv2.analysis.evidence.tables import MISSING_COLUMNS
from aimv2.analysis.judgement.controls import check_controls
from aimv2.analysis.judgement.withheld import Reasons
from tests.helpers.evidence import evidence_from, evidence_of
from tests.helpers.specimen import STUDY

LOSS, MASKED = "content_loss", "causal_content_loss"


def checked(study, evidence, metric=LOSS):
    return [one for one in check_controls(study, evidence) if one.metric == metric]


def withheld_by(controls, metrics):
    return Reasons(STUDY, evidence_from([], []), controls).of_controls(metrics)


@pytest.mark.parametrize(
    ("null", "positive", "results", "words"),
    [
        (0.0, 1.0, ["passed", "passed"], "the study detects it"),
        (0.3, 0.0, ["failed", "failed"], "no difference larger than the margin"),
        (0.0, -1.0, ["passed", "failed"], "on the wrong side: with shuffled captions the metric is better"),
    ],
)
def test_control_result_follows_from_its_effect(null, positive, results, words):
    effects = {"null_control": null, "positive_control": positive}
    outcomes = checked(STUDY, evidence_of(STUDY, effects, spread=0.003, shared=0))
    assert [one.control for one in outcomes] == ["null_control", "positive_control"]
    assert [one.result for one in outcomes] == results
    assert words in outcomes[1].reason


def test_positive_control_that_is_not_detected_is_inconclusive():
    outcomes = checked(STUDY, evidence_of(STUDY, {}, spread=0.5))
    assert outcomes[1].result == "inconclusive"
    assert "does not detect" in outcomes[1].reason


def test_controls_are_checked_in_every_metric_that_decides():
    assert STUDY.deciding_metrics == [LOSS, MASKED]
    effects = {("positive_control", LOSS): 1.0, ("positive_control", MASKED): -1.0}
    outcomes = check_controls(STUDY, evidence_of(STUDY, effects, spread=0.01, shared=0, metrics=(LOSS, MASKED)))
    results = {(one.control, one.metric): one.result for one in outcomes}
    assert results["positive_control", LOSS] == "passed"
    assert results["positive_control", MASKED] == "failed"
    assert withheld_by(outcomes, [LOSS]) == []
    assert withheld_by(outcomes, [LOSS, MASKED]) == ["positive control failed in causal_content_loss"]


def test_absent_controls_are_inconclusive_and_those_without_values_not_measured():
    unmeasured = check_controls(STUDY, evidence_from([], []))
    assert {one.result for one in unmeasured} == {"not measured"}
    assert withheld_by(unmeasured, [LOSS])[0] == f"null control was not measured in {LOSS}"
    outcomes = checked(replace(STUDY, controls=("null_control",)), evidence_of(STUDY, {}, spread=0.01, shared=0))
    assert [one.result for one in outcomes] == ["passed", "inconclusive"]
    assert withheld_by(outcomes, [LOSS]) == ["positive control is inconclusive in content_loss"]
    assert "launched without it" in outcomes[1].reason


def test_control_with_a_failed_run_is_inconclusive():
    missing = pd.DataFrame([("positive_control", 4, "", "not finite", True)], columns=MISSING_COLUMNS)
    evidence = replace(evidence_of(STUDY, {"positive_control": 1.0}, spread=0.01), missing=missing)
    positive = checked(STUDY, evidence)[1]
    assert (positive.result, positive.reason) == (
        "inconclusive",
        f"1 of 5 runs of {STUDY.label('positive_control')} failed.",
    )


def test_null_control_is_compared_unpaired_at_99_percent(evidence):
    values = evidence.values("content_loss")
    expected = stats.ttest_ind(values["null_control"], values["uniform"], equal_var=False).confidence_interval(0.99)
    null = next(one for one in check_controls(STUDY, evidence) if one.control == "null_control")
    assert f"[{expected.low:+.3f}, {expected.high:+.3f}]" in null.reason
    assert expected.high - expected.low > 4, "the seeds differ widely, and that does not cancel"


def test_a_confirmation_of_a_search_needs_no_controls_but_those_that_it_has_must_pass():
    arms = {"uniform": STUDY.arms["uniform"], WINNER: STUDY.arms["causal"]}
    search = confirmation(STUDY, arms)
    assert check_controls(search, evidence_of(search, {WINNER: -0.1}, spread=0.01)) == []
    (null,) = check_controls(
        replace(search, controls=("null_control",)),
        evidence_of(replace(search, controls=("null_control",)), {"null_control": 0.3}, spread=0.003, shared=0),
    )
    assert (null.control, null.result) == ("null_control", "failed")
