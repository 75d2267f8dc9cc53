"""The encoder's benchmark, on three small encoders."""

import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.model.encoder import Encoder
from benchmarks.command import benchmarks_command
from benchmarks.encoder import implementations, require_same, rows
from benchmarks.training import PRODUCT, encoder_config


@pytest.fixture
def config():
    return encoder_config("demo", depth=2)


@pytest.fixture
def encoder(config):
    """An encoder with norms away from 1 and biases away from 0, so that a missing or misplaced one matters."""
    encoder = Encoder(config.model).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in encoder.parameters():
        parameter.data.normal_(mean=float(parameter.ndim == 1), std=0.1, generator=generator)
    return encoder


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 3e-2)])
def test_three_encoders_agree(config, encoder, dtype, tolerance):
    encoder.to(dtype)
    image = torch.randn(2, 3, 32, 32, dtype=dtype)
    encoders = implementations(encoder, config.model)
    features = {name: encode(image) for name, encode in encoders.items()}
    assert list(features) == ["ours", "timm", "transformers"]
    for first, second in pairwise(features.values()):
        assert first.dtype == second.dtype == dtype
        assert (first - second).norm() <= tolerance * second.norm()
    require_same(encoders, image, tolerance)


@torch.no_grad()
def test_encoders_that_differ_are_not_compared(config, encoder):
    image = torch.randn(2, 3, 32, 32)
    encoders = implementations(encoder, config.model)
    theirs = encoders["timm"]
    encoders["timm"] = lambda image: 1.001 * theirs(image)
    with pytest.raises(RunFailedError, match=r"features of timm differ from ours by 0.001 of their norm"):
        require_same(encoders, image, 1e-4)
    encoders["timm"] = lambda image: theirs(image) * torch.nan
    with pytest.raises(RunFailedError, match="features of timm differ"):
        require_same(encoders, image, 1e-4)


def test_rows_have_times_rates_and_ratios(config, encoder):
    seconds = {
        "ours": np.array([0.010, 0.012, 0.011, 0.010, 0.010, 0.010]),
        "timm": np.array([0.020, 0.012, 0.022, 0.020, 0.020, 0.020]),
        PRODUCT: np.array([0.001] * 6),
    }
    ours, timm, product = rows(seconds, {"ours": 4e9, "timm": 4e9, PRODUCT: 2e9}, batch_size=4)
    assert [row["ms / image"] for row in (ours, timm, product)] == [pytest.approx(2.5), pytest.approx(5), None]
    assert [row["GFLOP / s"] for row in (ours, timm, product)] == pytest.approx([400, 200, 2000])
    assert [row["of the product's"] for row in (ours, timm, product)] == pytest.approx([0.2, 0.1, 1])
    ratio = timm["its time / ours"]
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((2, 1, 2))
    assert ours["its time / ours"] is product["its time / ours"] is None


@pytest.mark.parametrize("missing", ["timm", "transformers"])
def test_missing_package_is_named_with_the_command_to_install_it(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=rf"{missing}.* pip install 'aimv2-ablations\[dev\]'"):
        benchmarks_command(["encoder", "scale=demo"])
