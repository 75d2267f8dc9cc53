import math

import pytest
import torch

from aimv2.model.network import build
from aimv2.objectives import objective
from tests.helpers.objectives import siglip_loss, with_objective


def test_loss_matches_open_clip(tiny, batch):
    config = with_objective(tiny, "siglip", attention="bidirectional")
    model = build(config)
    total, terms = objective("siglip").load().losses(model, batch, config)
    assert list(terms) == ["contrastive_loss"]
    assert torch.equal(total, terms["contrastive_loss"])
    image = model.embed_images(batch.image)
    text = model.embed_texts(batch.token_BT, batch.text_len_B)
    torch.testing.assert_close(total, siglip_loss(model.similarity, image, text))


@pytest.mark.parametrize(("temperature", "scale"), [(None, 10), (0.02, 50)])
def test_temperature_and_bias_start_at_the_papers_values(tiny, temperature, scale):
    similarity = build(with_objective(tiny, "siglip", temperature=temperature)).similarity.requires_grad_(False)
    assert float(similarity.scale) == pytest.approx(scale)
    assert float(similarity.logit_scale) == pytest.approx(math.log(scale))
    assert float(similarity.logit_bias) == -10
