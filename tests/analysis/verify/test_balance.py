"""2: gradients against plain backward passes, and records that are broken."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aimv2.objectives import objective
from analysis.verify.balance import COSINE, PIXEL, TEXT, balance, share


def verdicts(subject):
    return [line.verdict for line in balance(subject).lines]


def with_record(subject, change):
    metrics = subject.metrics.copy()
    change(metrics)
    return replace(subject, metrics=metrics)


def test_the_trained_run_is_balanced(small):
    found = balance(small)
    assert [line.verdict for line in found.lines] == ["PASS", "PASS"]
    assert found.recorded["samples"].tolist() == [32, 3200, 6400, 9600]
    assert len(found.at_end) == 8


def test_gradients_at_the_end_are_those_of_backward(small):
    found, last = balance(small), small.batches[len(small.batches) - 1]
    shared = list(small.model.decoder.blocks.parameters())
    vectors = []
    for name in ("pixel_loss", "text_loss"):
        small.model.zero_grad()
        objective("aimv2").load().losses(small.model, last, small.config).terms[name].backward()
        vectors.append(torch.cat([parameter.grad.flatten() for parameter in shared]).double().numpy())
    small.model.zero_grad()
    norms = [np.linalg.norm(vector) for vector in vectors]
    row = found.at_end.iloc[-1]
    assert [row[PIXEL], row[TEXT]] == pytest.approx(norms, rel=1e-4)
    assert row[COSINE] == pytest.approx(vectors[0] @ vectors[1] / norms[0] / norms[1], abs=1e-5)
    assert found.end_ratio == pytest.approx(np.mean(found.at_end[PIXEL] / found.at_end[TEXT]))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
@pytest.mark.parametrize("name", [PIXEL, TEXT])
def test_a_norm_that_is_zero_or_not_finite_fails(small, name, value):
    def spoil(metrics):
        metrics.loc[metrics["step"] == 200, name] = value

    lines = balance(with_record(small, spoil)).lines
    assert [line.verdict for line in lines] == ["FAIL", "PASS"]
    assert "1 with a value that is 0 or not finite" in lines[0].found


@pytest.mark.parametrize("step", [1, 100])
def test_a_point_that_lacks_all_its_values_fails(small, step):
    def spoil(metrics):
        metrics.loc[metrics["step"] == step, [PIXEL, TEXT, COSINE]] = np.nan

    assert verdicts(with_record(small, spoil)) == ["FAIL", "PASS"]


def test_a_batch_without_a_patch_to_predict_has_no_gradients_to_record(small):
    def leave_out(metrics):
        metrics.loc[metrics["step"] == 100, ["pixel_loss", PIXEL, TEXT, COSINE]] = np.nan

    found = balance(with_record(small, leave_out))
    assert [line.verdict for line in found.lines] == ["PASS", "PASS"]
    assert len(found.recorded) == 3


def test_a_run_that_recorded_none_is_still_looked_at_in_the_end(small):
    def drop(metrics):
        for name in (PIXEL, TEXT, COSINE):
            del metrics[name]

    assert verdicts(with_record(small, drop)) == ["NOT APPLICABLE", "PASS"]


@pytest.mark.parametrize(("alpha", "verdict"), [(0.4, "PASS"), (1e-4, "FAIL"), (1e5, "FAIL")])
def test_a_loss_that_drowns_the_other_fails(small, alpha, verdict):
    config = replace(small.config, objective=replace(small.config.objective, pixel_weight=alpha))
    assert verdicts(replace(small, config=config)) == ["PASS", verdict]


REASONS = {
    "image_only does not have both": {"objective": {"name": "image_only"}},
    "caption does not have both": {"objective": {"name": "caption"}},
    "clip does not have both": {"objective": {"name": "clip"}},
    "share no decoder": {"decoder": {"sharing": "separate"}},
    "has weight 0": {"objective": {"pixel_weight": 0}},
}


@pytest.mark.parametrize(("why", "kind"), REASONS.items(), ids=REASONS)
def test_where_there_is_nothing_to_balance_the_lines_say_why(variant, why, kind):
    for line in balance(variant(**kind)).lines:
        assert line.verdict == "NOT APPLICABLE"
        assert why in line.found


def test_a_share_is_of_both_weighted_norms():
    assert share(1.0, 1.0) == 0.5
    assert share(0.5, 0.4) == pytest.approx(0.2 / 1.2)
