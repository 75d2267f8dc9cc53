import json
from dataclasses import asdict, replace

import pytest
from pydantic import TypeAdapter

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expectations import PROBE, Combination
from aimv2.ablations.study import StudyOverrides, study_overrides
from aimv2.base.errors import UsageError


def test_own_values_apply_to_the_same_study(study):
    assert study_overrides(study).apply(study) == study


def test_another_metric_drops_expectations_and_has_its_own_margin(study):
    own = study_overrides(study)
    other = replace(own, primary_metric=PROBE).apply(study)
    assert (other.expected, other.primary_margin) == ({}, 0.01)
    assert replace(own, primary_metric=PROBE, equivalence_margin=0.05).apply(study).equivalence_margin == 0.05
    assert study_overrides(other).apply(study) == other, "as a recorded request is read"


def test_expectation_is_overridden_or_left_open(study):
    expected = {**study_overrides(study).expected, "causal": None, "fixed_50": "better"}
    changed = replace(study_overrides(study), expected=expected).apply(study)
    assert changed.expected == {"fixed_50": "better", "causal_same_patches": "worse"}


def test_claim_without_expectations_is_left_out(study):
    claims = {**study.claims, "prefix-beats-causal": ()}
    assert set(replace(study_overrides(study), claims=claims).apply(study).claims) == set(study.claims) - {
        "prefix-beats-causal"
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"baseline": "casual"}, "unknown sweep.baseline 'casual'. Did you mean 'causal'"),
        ({"baseline": "causal", "expected": {"causal": "better"}}, "sweep.expected.causal: it is the baseline"),
    ],
)
def test_override_that_names_no_other_arm_is_refused(study, values, message):
    with pytest.raises(UsageError, match=message):
        replace(study_overrides(study), **values).apply(study)


def test_a_combination_has_no_controls(study):
    """They have seeds or data of their own."""
    weights = {"uniform": 1.0, "null_control": -1.0}
    claims = {"c": (Combination(name="sum", metric=PROBE, weights=weights, relation="better"),)}
    with pytest.raises(UsageError, match=r"unknown arm of sweep\.claims\.c 'null_control'"):
        replace(study_overrides(study), claims=claims).apply(study)


@pytest.mark.parametrize("slug", ["batch_size", "decoder_size", "prefix_ratio", "sample_efficiency"])
def test_every_kind_of_expectation_is_read_from_what_is_written(slug):
    own = study_overrides(STUDIES[slug])
    written = json.loads(json.dumps(asdict(own)))
    assert TypeAdapter(StudyOverrides).validate_python(written).claims == dict(own.claims)


def test_number_of_seeds_counts_from_zero(study):
    assert replace(study_overrides(study), seeds=3).seeds == (0, 1, 2)
    assert replace(study_overrides(study), seeds=[5, 7]).seeds == (5, 7)
