import pytest
from scipy import stats

from ablations.studies.prefix_ratio import STUDY
from analysis.compare import primary_comparisons
from analysis.controls import check_controls, null_note
from tests.helpers.evidence import evidence_from, evidence_of


@pytest.mark.parametrize(
    ("null", "positive", "results"),
    [(0.0, 1.0, ["passed", "passed"]), (0.3, 0.0, ["failed", "failed"]), (0.0, -1.0, ["passed", "failed"])],
)
def test_control_result_follows_from_its_effect(null, positive, results):
    effects = {"null_control": null, "positive_control": positive}
    outcomes = check_controls(STUDY, evidence_of(STUDY, effects, spread=0.01, shared=0))
    assert [one.control for one in outcomes] == ["null_control", "positive_control"]
    assert [one.result for one in outcomes] == results


def test_controls_without_runs_are_inconclusive():
    assert {one.result for one in check_controls(STUDY, evidence_from([], []))} == {"inconclusive"}


def test_null_control_is_compared_unpaired_at_99_percent(evidence):
    values = evidence.values("caption_loss")
    expected = stats.ttest_ind(values["null_control"], values["uniform"], equal_var=False).confidence_interval(0.99)
    null = next(one for one in check_controls(STUDY, evidence) if one.control == "null_control")
    assert f"[{expected.low:+.3f}, {expected.high:+.3f}]" in null.reason
    assert expected.high - expected.low > 4, "the seeds differ widely, and that does not cancel"


def test_note_gives_the_rate_of_false_alarms_and_the_gain_of_pairing(cells, evidence):
    comparisons = primary_comparisons(STUDY, cells, evidence)
    note = null_note(STUDY, comparisons, evidence)
    assert "One null control in 100 fails by chance; over all 17 studies" in note
    assert "is up to 16 %" in note  # 1 - 0.99 ** 17
    errors = [one.difference.error for one in comparisons.values()]
    assert f"paired differences is {min(errors):.2g} to {max(errors):.2g}; that of this unpaired difference" in note
