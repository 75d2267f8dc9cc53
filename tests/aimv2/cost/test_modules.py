"""Masks counted query by query, and sizes of the paper. ``test_networks`` compares whole networks with two counters."""

from dataclasses import replace

import pytest
import torch
from aimv2.config.prefix import PrefixDistribution
from aimv2.request.resolve import with_attention

from aimv2.config.recipes.scales import SCALES, demo
from aimv2.cost.modules import visible_share
from aimv2.model.masks import prefix_mask
from aimv2.model.network import parameters_by_part


@pytest.mark.parametrize(
    "law", [PrefixDistribution(), PrefixDistribution(law="beta", alpha=3, beta=1, full_attention=0.2)], ids=str
)
def test_useful_attention_is_the_share_that_the_mask_lets_through(law):
    config = with_attention(replace(demo(), prefix=law))
    shares = prefix_mask(torch.arange(1, 17), 16).double().mean(dim=(1, 2, 3)).numpy()
    assert visible_share(config) == pytest.approx(float(law.pmf(16) @ shares))


@pytest.mark.parametrize(("attention", "share"), [("causal", 17 / 32), ("bidirectional", 1)])
def test_visible_share_of_other_masks(attention, share):
    config = replace(demo(), model=replace(demo().model, encoder=replace(demo().model.encoder, attention=attention)))
    assert visible_share(config) == pytest.approx(share)


@pytest.mark.parametrize(
    ("scale", "encoder_millions"),
    [("vit_b", 85.6), ("vit_l", 309.2), ("vit_h", 680.9), ("vit_1b", 1235.0), ("vit_3b", 2720.7)],
)
def test_encoders_have_the_papers_size(scale, encoder_millions):
    """Paper Table 1 and ml-aim; the decoder at L has about 221 M."""
    parameters = parameters_by_part(SCALES[scale]())
    assert round(parameters["encoder"] / 1e6, 1) == encoder_millions
    if scale == "vit_l":
        assert round(parameters["decoder"] / 1e6) == 221


@pytest.mark.parametrize(
    ("changes", "millions"),
    [
        ({"width": 512, "num_heads": 4}, 74.5),
        ({"width": 1536, "num_heads": 12}, 440.7),
        ({"depth": 8}, 170),
        ({"depth": 16}, 272.8),
    ],
    ids=str,
)
def test_decoders_have_the_papers_size(changes, millions):
    """Tables 9e and 9f at ViT-L; sizes derived in the paper's facts from the released code."""
    config = SCALES["vit_l"]()
    config = replace(config, model=replace(config.model, decoder=replace(config.model.decoder, **changes)))
    assert parameters_by_part(config)["decoder"] / 1e6 == pytest.approx(millions, abs=0.05 if millions != 170 else 0.5)
