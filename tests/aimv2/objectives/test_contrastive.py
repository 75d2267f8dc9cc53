"""Losses of the contrastive objectives; several ranks are in training/test_distributed.py."""

import math

import pytest
import torch

from aimv2.ablations.design import switch_objective
from aimv2.objectives.build import build
from tests.helpers.objectives import clip_loss, siglip_loss, with_objective
from tests.helpers.training import losses_of


@pytest.mark.parametrize("attention", ["bidirectional", "prefix", "causal"])
@pytest.mark.parametrize(("name", "open_clips"), [("clip", clip_loss), ("siglip", siglip_loss)])
def test_loss_matches_open_clip_with_the_attention_of_the_config(tiny, batch, name, open_clips, attention):
    config = with_objective(tiny, name, attention=attention)
    model = build(config)
    total, terms = losses_of(model, batch, config)
    assert terms == {"contrastive_loss": total}
    prefix = {"bidirectional": None, "prefix": batch.prefix_len_B, "causal": torch.ones(6, dtype=torch.int64)}
    image = model.embed_images(batch.image, prefix[attention])
    text = model.embed_texts(batch.token_BT, batch.text_len_B)
    torch.testing.assert_close(total, open_clips(model.similarity, image, text))


@pytest.mark.parametrize(
    ("name", "temperature", "scale", "bias"),
    [("clip", None, 1 / 0.07, None), ("clip", 0.5, 2, None), ("siglip", None, 10, -10), ("siglip", 0.02, 50, -10)],
)
def test_temperature_and_bias_start_at_the_papers_values(tiny, name, temperature, scale, bias):
    similarity = build(with_objective(tiny, name, temperature=temperature)).similarity.requires_grad_(False)
    assert float(similarity.scale) == pytest.approx(scale)
    assert float(similarity.logit_scale) == pytest.approx(math.log(scale))
    assert similarity.logit_bias == bias


def test_the_arms_bias_of_siglip_is_neutral_in_its_batch(tiny):
    """Without a similarity, a pair is then one in as many as an image is compared with."""
    run = switch_objective("SigLIP", "siglip", "bidirectional", batch=2).change(tiny)
    odds = torch.sigmoid(build(run).similarity.logit_bias.detach().double())
    assert float(odds) == pytest.approx(1 / (2 * tiny.budget.batch_size), rel=0.01)
