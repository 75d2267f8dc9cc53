"""Recorded gradients, and records that are broken."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.verify.balance import COSINE, PIXEL, TEXT, balance


def verdicts(run):
    return [check.verdict for check in balance(run)]


def with_record(run, change):
    metrics = run.metrics.copy()
    change(metrics)
    return replace(run, metrics=metrics)


def test_trained_run_passes_both_checks(small):
    training, end = balance(small)
    assert (training.verdict, end.verdict) == ("PASS", "PASS")
    assert training.found.startswith("3 points, norm of pixel gradient ")
    last, alpha = small.metrics.iloc[-1], small.config.objective.pixel_weight
    assert f"= {alpha * last[PIXEL] / last[TEXT]:.3f} at alpha {alpha:g}" in end.found


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
@pytest.mark.parametrize("name", [PIXEL, TEXT])
def test_norm_that_is_zero_or_not_finite_fails(small, name, value):
    def spoil(metrics):
        metrics.loc[metrics["step"] == 100, name] = value

    checks = balance(with_record(small, spoil))
    assert [check.verdict for check in checks] == ["FAIL", "PASS"]
    assert "1 with a norm of 0 or a value that is not finite" in checks[0].found


@pytest.mark.parametrize("step", [1, 100])
def test_point_without_values_fails(small, step):
    def spoil(metrics):
        metrics.loc[metrics["step"] == step, [PIXEL, TEXT, COSINE]] = np.nan

    assert verdicts(with_record(small, spoil)) == ["FAIL", "PASS"]


def test_batch_without_a_patch_to_predict_needs_no_gradients(small):
    def leave_out(metrics):
        metrics.loc[metrics["step"] == 100, ["pixel_loss", PIXEL, TEXT, COSINE]] = np.nan

    training, end = balance(with_record(small, leave_out))
    assert (training.verdict, end.verdict) == ("PASS", "PASS")
    assert training.found.startswith("2 points")


def test_run_without_recorded_gradients_is_not_applicable(small):
    def drop(metrics):
        for name in (PIXEL, TEXT, COSINE):
            del metrics[name]

    assert verdicts(with_record(small, drop)) == ["NOT APPLICABLE"] * 2


@pytest.mark.parametrize(("alpha", "verdict"), [(0.4, "PASS"), (1e-4, "FAIL"), (1e5, "FAIL")])
def test_loss_that_drowns_the_other_fails(small, alpha, verdict):
    config = replace(small.config, objective=replace(small.config.objective, pixel_weight=alpha))
    assert verdicts(replace(small, config=config)) == ["PASS", verdict]


REASONS = {
    "image_only does not have both": {"objective": {"name": "image_only"}},
    "caption does not have both": {"objective": {"name": "caption"}},
    "clip does not have both": {"objective": {"name": "clip"}},
    "share no parameters": {"decoder": {"sharing": "separate"}},
    "has weight 0": {"objective": {"pixel_weight": 0}},
}


@pytest.mark.parametrize(("why", "kind"), REASONS.items(), ids=REASONS)
def test_run_without_two_losses_is_not_applicable_with_a_reason(variant, why, kind):
    for check in balance(variant(**kind)):
        assert check.verdict == "NOT APPLICABLE"
        assert why in check.found
