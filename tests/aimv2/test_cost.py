from dataclasses import replace

import pytest
import torch
from fvcore.nn import parameter_count
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aimv2.config import ModelConfig, ObjectiveConfig, TransformerConfig
from aimv2.cost import forward_flops, max_train_flops, num_parameters, train_flops
from aimv2.model.aimv2 import AIMv2, build
from aimv2.objectives import aimv2_losses
from aimv2.scales import demo


@pytest.mark.parametrize(
    "config", [demo().model, replace(demo().model, patch_px=16, max_text_tokens=5)], ids=["demo", "other"]
)
def test_flops_equal_torchs_counter(config):
    model = build(config, seed=0)
    num_images, places = 3, torch.tensor([0, 2, 11])
    batch = [
        torch.randn(num_images, 3, config.image_px, config.image_px),
        torch.zeros(num_images, config.max_text_tokens, dtype=torch.int64),
        torch.ones(num_images, dtype=torch.int64),
        places,
    ]
    # The default CPU attention is counted as nothing by torch 2.13; the math backend is counted in full.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward:
        pixel, text = aimv2_losses(model, *batch, config=ObjectiveConfig(), patch_px=config.patch_px)
    assert forward.get_total_flops() == forward_flops(config).total(num_images, len(places))

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as backward:
        (pixel + text).backward()
    # The image itself needs no gradient, which the closed form's factor of two counts.
    input_gradient = 2 * num_images * config.num_patches * config.patch_dim * config.encoder.width
    total = forward.get_total_flops() + backward.get_total_flops() + input_gradient
    assert total == train_flops(config, num_images, len(places))


def test_parameters_equal_fvcores_count():
    counted = parameter_count(AIMv2(demo().model))
    assert {part: counted[part] for part in ("encoder", "decoder")} == num_parameters(demo().model)


@pytest.mark.parametrize(
    ("width", "num_heads", "millions"), [(1024, 8, 309.2), (1536, 12, 680.9), (2048, 16, 1235.0), (3072, 24, 2720.7)]
)
def test_the_papers_encoders_have_their_size(width, num_heads, millions):
    """Paper Table 1; the decoder at L has about 221 M."""
    config = ModelConfig(
        encoder=TransformerConfig(width=width, depth=24, num_heads=num_heads),
        decoder=TransformerConfig(width=1024, depth=12, num_heads=8),
        image_px=224,
        patch_px=14,
        vocab_size=32_000,
        max_text_tokens=77,
    )
    parameters = num_parameters(config)
    assert round(parameters["encoder"] / 1e6, 1) == millions
    if width == 1024:
        assert round(parameters["decoder"] / 1e6) == 221


def test_the_price_of_a_run_is_never_below_its_cost():
    config = demo()
    assert max_train_flops(config) >= train_flops(config.model, config.budget.samples, 10 * config.budget.samples)
