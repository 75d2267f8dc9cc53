"""What the contrastive objectives share; several ranks are in training/test_distributed.py."""

import pytest
import torch

from aimv2.model.network import build
from aimv2.objectives import objective
from tests.helpers.objectives import clip_loss, with_objective


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_every_parameter_has_a_gradient(tiny, batch, name):
    config = with_objective(tiny, name, attention="bidirectional")
    model = build(config)
    objective(name).load().losses(model, batch, config).total.backward()
    assert not [key for key, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum()]


@pytest.mark.parametrize("attention", ["bidirectional", "prefix", "causal"])
def test_encoder_attention_follows_the_config(tiny, batch, attention):
    config = with_objective(tiny, "clip", attention=attention)
    model = build(config)
    prefix = {"bidirectional": None, "prefix": batch.prefix_len_B, "causal": torch.ones(6, dtype=torch.int64)}
    image = model.embed_images(batch.image, prefix[attention])
    expected = clip_loss(model.similarity, image, model.embed_texts(batch.token_BT, batch.text_len_B))
    torch.testing.assert_close(objective("clip").load().losses(model, batch, config).total, expected)
