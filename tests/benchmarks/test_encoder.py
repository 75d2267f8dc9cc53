"""The encoders that are timed: their features and their rows."""

import sys

import pytest
import torch

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.cost import encoder_cost, forward_flops
from aimv2.model.encoder import Encoder
from benchmarks.encoder import EncoderOptions, encoder_config, require_same, time_both, timms


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 3e-2)])
def test_timms_encoder_agrees_with_ours(dtype, tolerance):
    """Norms are away from 1 and biases away from 0, so that a missing or misplaced one matters."""
    config = encoder_config(2, 56).model
    ours, generator = Encoder(config).eval(), torch.Generator().manual_seed(0)
    for parameter in ours.parameters():
        parameter.data.normal_(mean=float(parameter.ndim == 1), std=0.1, generator=generator)
    image = torch.randn(2, 3, 56, 56, dtype=dtype)
    theirs = timms(ours.to(dtype), config)(image)
    assert theirs.dtype == dtype
    assert (theirs - ours(image)).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize("factor", [1.001, torch.nan])
def test_encoders_that_differ_are_not_compared(factor):
    features = torch.randn(2, 16, 8)
    require_same(features, features, 1e-4)
    with pytest.raises(RunFailedError, match=r"features of timm differ from ours by (0.001|nan) of their norm"):
        require_same(factor * features, features, 1e-4)


def test_a_row_has_time_rate_and_ratio():
    ours, theirs, product = time_both(EncoderOptions(depth=1, batch_size=2, repeats=2, device="cpu"), 16, "float32")
    flops = forward_flops([encoder_cost(encoder_config(1, 56))], 1, 0)
    assert theirs["GFLOP / s"] == pytest.approx(flops / (theirs["ms / image"] / 1000) / 1e9)
    assert ours["of the product's"] == pytest.approx(ours["GFLOP / s"] / product["GFLOP / s"])
    assert theirs["its time / ours"].median == pytest.approx(theirs["ms / image"] / ours["ms / image"], rel=0.5)
    assert ours["its time / ours"] is product["its time / ours"] is None
    assert product["of the product's"] == pytest.approx(1)


def test_missing_package_is_named_with_the_command_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    config = encoder_config(1, 56).model
    with pytest.raises(UsageError, match=r"timm.*pip install"):
        timms(Encoder(config), config)
