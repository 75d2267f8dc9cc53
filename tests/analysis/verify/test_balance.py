"""Gradients against plain backward passes, and records that are broken."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aimv2.analysis.verify.balance import COSINE, PIXEL, TEXT, balance
from tests.helpers.training import losses_of


def verdicts(run):
    return [check.verdict for check in balance(run).checks]


def with_record(run, change):
    metrics = run.metrics.copy()
    change(metrics)
    return replace(run, metrics=metrics)


@pytest.mark.exhaustive
def test_trained_run_passes_both_checks(small):
    found = balance(small)
    assert [check.verdict for check in found.checks] == ["PASS", "PASS"]
    assert found.recorded["samples"].tolist() == [32, 3200, 6400]
    assert len(found.at_end) == 8


@pytest.mark.exhaustive
def test_gradients_at_the_end_equal_backward_passes(small):
    found, last = balance(small), small.batches[len(small.batches) - 1]
    shared = list(small.model.decoder.blocks.parameters())
    vectors = []
    for name in ("pixel_loss", "text_loss"):
        small.model.zero_grad()
        losses_of(small.model, last, small.config).terms[name].backward()
        vectors.append(torch.cat([parameter.grad.flatten() for parameter in shared]).double().numpy())
    small.model.zero_grad()
    norms = [np.linalg.norm(vector) for vector in vectors]
    row = found.at_end.iloc[-1]
    assert [row[PIXEL], row[TEXT]] == pytest.approx(norms, rel=1e-4)
    assert row[COSINE] == pytest.approx(vectors[0] @ vectors[1] / norms[0] / norms[1], abs=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
@pytest.mark.parametrize("name", [PIXEL, TEXT])
def test_norm_that_is_zero_or_not_finite_fails(small, name, value):
    def spoil(metrics):
        metrics.loc[metrics["step"] == 200, name] = value

    checks = balance(with_record(small, spoil)).checks
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

    found = balance(with_record(small, leave_out))
    assert [check.verdict for check in found.checks] == ["PASS", "PASS"]
    assert len(found.recorded) == 2


def test_run_without_recorded_gradients_is_checked_at_the_end(small):
    def drop(metrics):
        for name in (PIXEL, TEXT, COSINE):
            del metrics[name]

    assert verdicts(with_record(small, drop)) == ["NOT APPLICABLE", "PASS"]


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
    for check in balance(variant(**kind)).checks:
        assert check.verdict == "NOT APPLICABLE"
        assert why in check.found
