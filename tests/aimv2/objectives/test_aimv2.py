from dataclasses import replace

import pytest
import torch

from aimv2.model.network import build
from aimv2.objectives import objective
from tests.helpers.objectives import with_objective
from tests.helpers.training import changed


def test_text_loss_trains_the_encoder(tiny, batch):
    """Captions are conditioned on the image."""
    model = build(tiny)
    objective("aimv2").load().losses(model, batch, tiny).terms["text_loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.parameters())
    assert model.decoder.pixel_head.weight.grad is None


@pytest.mark.parametrize("pixel_weight", [0.0, 0.4, 2.0])
def test_total_is_text_plus_weighted_pixels(tiny, batch, pixel_weight):
    config = replace(tiny, objective=replace(tiny.objective, pixel_weight=pixel_weight))
    total, terms = objective("aimv2").load().losses(build(tiny), batch, config)
    torch.testing.assert_close(total, terms["text_loss"] + pixel_weight * terms["pixel_loss"])


def test_batch_without_a_patch_to_predict_has_text_loss_only(tiny, batch):
    config = replace(tiny, prefix=replace(tiny.prefix, full_attention=0.5))
    full = batch._replace(prefix_len_B=torch.full((6,), 16), num_scored=0)
    total, terms = objective("aimv2").load().losses(build(config), full, config)
    assert set(terms) == {"text_loss"}
    assert total is terms["text_loss"]


@pytest.mark.parametrize(("sharing", "is_shared"), [("joint", True), ("separate", False)])
def test_losses_share_the_blocks_of_a_joint_decoder(tiny, sharing, is_shared):
    model = build(changed(tiny, {"model.decoder.sharing": sharing}))
    shared = {id(parameter) for parameter in objective("aimv2").load().shared_parameters(model)}
    blocks = {id(value) for name, value in model.named_parameters() if name.startswith("decoder.blocks.")}
    assert shared == (blocks if is_shared else set())
    assert bool(blocks) == is_shared


@pytest.mark.parametrize(
    ("name", "term", "missing_head"),
    [("caption", "text_loss", "pixel_head"), ("image_only", "pixel_loss", "text_head")],
)
def test_loss_alone_is_aimv2s_term(tiny, batch, name, term, missing_head):
    config = with_objective(tiny, name)
    goal, model, whole = objective(name).load(), build(config), build(tiny)
    model.load_state_dict({key: whole.state_dict()[key] for key in model.state_dict()})
    assert not hasattr(model.decoder, missing_head)
    total, terms = goal.losses(model, batch, config)
    assert terms == {term: total}
    torch.testing.assert_close(total, objective("aimv2").load().losses(whole, batch, tiny).terms[term])
    assert goal.shared_parameters(model) == []


def test_image_only_reads_no_text(tiny, batch):
    config = with_objective(tiny, "image_only")
    goal, model = objective("image_only").load(), build(config)
    other_text = batch._replace(token_BT=batch.token_BT.flip(0))
    assert torch.equal(goal.losses(model, other_text, config).total, goal.losses(model, batch, config).total)
