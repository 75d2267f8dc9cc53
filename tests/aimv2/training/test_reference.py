"""A training step has the losses and gradients of a straightforward one."""

from dataclasses import replace

import pytest
import torch

from aimv2.definitions.objectives import objective
from aimv2.memory.setup import setup_of
from aimv2.objectives.build import build, implementation_of
from aimv2.training.engine import Engine
from tests.helpers.reference import reference_backward


@pytest.mark.parametrize(
    ("dtype", "precision", "tolerance"),
    [
        (torch.float64, "float32", 1e-9),
        (torch.float32, "float32", 1e-5),
        (torch.float32, "bfloat16", 0.03),
    ],
)
def test_steps_have_the_same_losses_and_gradients(tiny, batch, dtype, precision, tolerance):
    config = replace(tiny, precision=precision)
    batch = batch._replace(image=batch.image.to(dtype))
    model = build(config).to(dtype)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight += 0.1 * torch.randn(len(weight), generator=torch.Generator().manual_seed(0))
    found = {}
    for name in ("ours", "reference"):
        model.zero_grad()
        if name == "ours":
            engine = Engine(implementation_of(objective("aimv2"))(model, config), config, setup_of(config))
            terms = {key: float(term) for key, term in engine.backward(engine.micro_batches(batch)).items()}
        else:
            terms = reference_backward(model, batch, config)
        found[name] = terms, {key: weight.grad.clone() for key, weight in model.named_parameters()}
    (ours, gradients), (expected, expected_gradients) = found.values()
    assert ours == pytest.approx(expected, rel=tolerance)
    for name, gradient in expected_gradients.items():
        error = (gradients[name] - gradient).norm() / gradient.norm()
        assert error <= tolerance, f"gradient of {name}: relative error {error:.2e}"
