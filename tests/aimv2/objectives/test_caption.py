import torch

from aimv2.model.network import build
from aimv2.objectives import objective
from tests.helpers.objectives import with_objective


def test_loss_is_aimv2s_text_term(tiny, batch):
    config = with_objective(tiny, "caption")
    model, whole = build(config), build(tiny)
    model.load_state_dict({key: whole.state_dict()[key] for key in model.state_dict()})
    assert not hasattr(model.decoder, "pixel_head")
    total, terms = objective("caption").load().losses(model, batch, config)
    assert terms == {"text_loss": total}
    expected = objective("aimv2").load().losses(whole, batch, tiny).terms["text_loss"]
    torch.testing.assert_close(total, expected)
