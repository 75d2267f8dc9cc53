from dataclasses import replace

import pytest

from ablations.expectations import PROBE
from ablations.studies.prefix_ratio import STUDY
from analysis.compare import Comparison, are_paired, primary_comparisons
from analysis.intervals import Estimate, judge
from tests.helpers.evidence import evidence_of


def test_pairing_detects_effects_that_the_seeds_would_hide(cells, evidence):
    comparisons = primary_comparisons(STUDY, cells, evidence)
    assert comparisons.keys() == {"fixed_25", "fixed_50", "fixed_75", "causal"}
    assert comparisons["fixed_75"].difference.excludes_zero
    assert comparisons["fixed_75"].difference.mean == pytest.approx(0.5, abs=0.02)
    assert not comparisons["fixed_25"].difference.excludes_zero
    assert evidence.values("caption_loss").std().min() > 0.5, "the seeds differ by more than any arm"


def test_only_requested_arms_are_compared(cells, evidence):
    some = [cell for cell in cells if cell.arm in ("uniform", "causal", "null_control")]
    (comparison,) = primary_comparisons(STUDY, some, evidence).values()
    assert comparison.difference.level == pytest.approx(0.95)


def test_only_the_null_control_is_unpaired():
    assert are_paired("causal", "uniform")
    assert are_paired("positive_control", "uniform")
    assert are_paired("null_control", "null_control")
    assert not are_paired("null_control", "uniform")
    assert not are_paired("uniform", "null_control")


@pytest.mark.parametrize(
    ("mean", "error", "expected", "word", "met"),
    [
        # With so many seeds that t is normal, and a margin of 0.02.
        (0.100, 0.0100, "worse", "worse", "as expected"),
        (0.100, 0.0100, "better", "worse", "not as expected"),
        (0.100, 0.0100, "equal", "worse", "not as expected"),
        (0.100, 0.0100, "open", "worse", ""),
        (0.005, 0.0010, "equal", "worse, within the margin", "as expected"),
        (0.005, 0.0010, "worse", "worse, within the margin", "not as expected"),
        (0.001, 0.0050, "equal", "equivalent", "as expected"),
        (0.001, 0.0050, "worse", "equivalent", "not as expected"),
        (0.001, 0.0500, "equal", "inconclusive", "inconclusive"),
        (0.050, 0.0500, "worse", "inconclusive", "inconclusive"),
        (0.050, 0.0000, "equal", "inconclusive", "inconclusive"),
    ],
)
def test_expectation_is_judged_by_the_finding(mean, error, expected, word, met):
    estimate = Estimate(mean, error, 1e6, 10**6)
    compared = Comparison(estimate, judge(estimate, 0.02, lower_is_better=True), expected)
    assert (compared.observed.word, compared.met) == (word, met)


def test_direction_follows_the_primary_metric(cells):
    study = replace(STUDY, primary_metric=PROBE, expected={}, claims={})
    evidence = evidence_of(study, {"causal": 0.1, "fixed_25": -0.1}, spread=0.001, metrics=(PROBE,))
    comparisons = primary_comparisons(study, cells, evidence)
    assert (comparisons["causal"].observed.word, comparisons["fixed_25"].observed.word) == ("better", "worse")
