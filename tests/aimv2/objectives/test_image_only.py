import torch

from aimv2.model.network import build
from aimv2.objectives import objective
from tests.helpers.objectives import with_objective


def test_loss_is_aimv2s_pixel_term(tiny, batch):
    config = with_objective(tiny, "image_only")
    model, whole = build(config), build(tiny)
    model.load_state_dict({key: whole.state_dict()[key] for key in model.state_dict()})
    assert not hasattr(model.decoder, "text_head")
    total, terms = objective("image_only").load().losses(model, batch, config)
    assert terms == {"pixel_loss": total}
    expected = objective("aimv2").load().losses(whole, batch, tiny).terms["pixel_loss"]
    torch.testing.assert_close(total, expected)
    other_text = batch._replace(token_BT=batch.token_BT.flip(0))
    torch.testing.assert_close(objective("image_only").load().losses(model, other_text, config).total, total)
