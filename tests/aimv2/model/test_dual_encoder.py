"""What the dual encoder's outputs depend on; against transformers it is in tools/test_weights.py."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from aimv2.config.model_config import TextTowerConfig
from aimv2.model.dual_encoder import DualEncoder, Similarity, TextTower
from aimv2.model.initial import init_weights_


def randomise(module):
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data.normal_(mean=float(parameter.ndim == 1), std=0.2, generator=generator)
    return module


@pytest.fixture
def config(tiny):
    """Sizes that all differ, so that a confusion is noticed."""
    return replace(
        tiny.model,
        encoder=replace(tiny.model.encoder, width=48, num_heads=3),
        text_tower=TextTowerConfig(width=40, depth=2, num_heads=4, embed_dim=24),
    )


@torch.no_grad()
def test_text_tower_depends_on_tokens_up_to_end_of_text(config, batch, tokens):
    tower = randomise(TextTower(config))
    before = tower(batch.token_BT, batch.text_len_B)
    place_T = torch.arange(batch.token_BT.shape[1])
    follows_BT = place_T >= batch.text_len_B[:, None]
    assert follows_BT.any(dim=1).all()
    assert torch.equal(tower(torch.where(follows_BT, tokens, batch.token_BT), batch.text_len_B), before)
    torch.testing.assert_close(
        tower(batch.token_BT[:, :6], batch.text_len_B), before
    )  # nor does the length of the padding
    for place in range(6):
        changed = batch.token_BT.clone()
        changed[:, place] += 1
        is_other = (tower(changed, batch.text_len_B) != before).any(dim=1)
        assert is_other.tolist() == (place < batch.text_len_B).tolist()


@torch.no_grad()
def test_embeddings_are_unit_vectors_of_the_heads_outputs(config, batch):
    model = randomise(DualEncoder(config, temperature=0.07))
    image, text = model.embed_images(batch.image), model.embed_texts(batch.token_BT, batch.text_len_B)
    assert image.shape == text.shape == (6, 24)
    for vectors in (image, text):
        torch.testing.assert_close(vectors.square().sum(dim=1), torch.ones(6))
    embedded = model.image_head(model.encoder(batch.image))
    torch.testing.assert_close(image, embedded / embedded.square().sum(dim=1, keepdim=True).sqrt())
    hidden = model.embed_images(batch.image, torch.ones(6, dtype=torch.int64))
    assert (hidden != image).any(dim=1).all(), "the encoder can be masked"


@torch.no_grad()
def test_embeddings_stay_float32_under_bfloat16(config, batch):
    model = randomise(DualEncoder(config, temperature=0.07))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image, text = model.embed_images(batch.image), model.embed_texts(batch.token_BT, batch.text_len_B)
    for vectors in (image, text):
        assert vectors.dtype == torch.float32
        torch.testing.assert_close(vectors.square().sum(dim=1), torch.ones(6))


@pytest.mark.parametrize("bias", [None, -10.0])
def test_similarity_is_scaled_cosine_plus_bias(bias):
    similarity = Similarity(0.5, bias)
    init_weights_(similarity, seed=0)
    image, text = F.normalize(torch.randn(3, 4), dim=1), F.normalize(torch.randn(5, 4), dim=1)
    logits = similarity(image, text)
    for i in range(3):
        for t in range(5):
            cosine = sum(float(a * b) for a, b in zip(image[i], text[t], strict=True))
            assert float(logits[i, t].detach()) == pytest.approx(2 * cosine + (bias or 0), abs=1e-5)


@pytest.mark.parametrize(
    ("logit_scale", "scale"), [(math.log(99), 99), (math.log(101), 100), (9.0, 100), (-2.0, 0.1353)]
)
def test_similarity_caps_its_scale_and_keeps_the_gradient(logit_scale, scale):
    similarity = Similarity(0.07, None, max_scale=100)
    similarity.logit_scale.data.fill_(logit_scale)
    assert float(similarity.scale.detach()) == pytest.approx(scale, rel=1e-3)
    similarity.scale.backward()
    assert float(similarity.logit_scale.grad) == pytest.approx(scale, rel=1e-3), "d exp(s) / ds, at the cap too"


def test_similarity_stays_float32_under_bfloat16():
    """Logits of two unit vectors times 50: bfloat16 would round them by up to 0.2."""
    similarity = Similarity(0.02, -10.0)
    init_weights_(similarity, seed=0)
    image, text = F.normalize(torch.randn(8, 64), dim=1), F.normalize(torch.randn(8, 64), dim=1)
    expected = similarity(image, text)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(similarity(image, text), expected)
