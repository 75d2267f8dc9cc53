"""The contrastive objectives against open_clip; several ranks are in training/test_distributed.py."""

import math
from dataclasses import replace

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss

from aimv2.model.network import build
from aimv2.objectives import objective


def contrastive(config, name, **values):
    encoder = replace(config.model.encoder, attention="bidirectional")
    return replace(
        config,
        model=replace(config.model, encoder=encoder),
        objective=replace(config.objective, name=name, **values),
    )


def open_clips(name, similarity, image_BS, text_BS):
    if name == "clip":
        return ClipLoss()(image_BS, text_BS, similarity.scale)
    return SigLipLoss()(image_BS, text_BS, similarity.scale, similarity.logit_bias)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_loss_matches_open_clip(tiny, batch, name):
    config = contrastive(tiny, name)
    model = build(config)
    total, terms = objective(name).load().losses(model, batch, config)
    assert list(terms) == ["contrastive_loss"]
    assert torch.equal(total, terms["contrastive_loss"])
    image = model.embed_images(batch.image)
    text = model.embed_texts(batch.token_BT, batch.text_len_B)
    torch.testing.assert_close(total, open_clips(name, model.similarity, image, text))


@pytest.mark.parametrize(
    ("name", "temperature", "scale", "bias"),
    [("clip", None, 1 / 0.07, None), ("siglip", None, 10, -10), ("clip", 0.5, 2, None), ("siglip", 0.02, 50, -10)],
)
def test_temperature_and_bias_start_at_the_papers_values(tiny, name, temperature, scale, bias):
    similarity = build(contrastive(tiny, name, temperature=temperature)).similarity.requires_grad_(False)
    assert float(similarity.scale) == pytest.approx(scale)
    assert float(similarity.logit_scale) == pytest.approx(math.log(scale))
    assert (None if similarity.logit_bias is None else float(similarity.logit_bias)) == bias


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_every_parameter_has_a_gradient(tiny, batch, name):
    config = contrastive(tiny, name)
    model = build(config)
    objective(name).load().losses(model, batch, config).total.backward()
    assert not [key for key, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum()]


@pytest.mark.parametrize("attention", ["bidirectional", "prefix", "causal"])
def test_encoder_attention_follows_the_config(tiny, batch, attention):
    config = contrastive(tiny, "clip")
    config = replace(config, model=replace(config.model, encoder=replace(config.model.encoder, attention=attention)))
    model = build(config)
    prefix = {"bidirectional": None, "prefix": batch.prefix_len_B, "causal": torch.ones(6, dtype=torch.int64)}
    image = model.embed_images(batch.image, prefix[attention])
    text = model.embed_texts(batch.token_BT, batch.text_len_B)
    expected = open_clips("clip", model.similarity, image, text)
    torch.testing.assert_close(objective("clip").load().losses(model, batch, config).total, expected)
