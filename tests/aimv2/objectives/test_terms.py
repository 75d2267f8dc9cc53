import pytest
import torch
import torch.nn.functional as F

from aimv2.losses import patchify, standardise
from aimv2.model.network import build
from aimv2.objectives import objective
from aimv2.objectives.terms import pixel_targets
from tests.helpers.training import changed


def test_text_loss_covers_supervised_tokens_only(tiny, batch):
    model = build(tiny)
    some = batch._replace(supervised_N=torch.tensor([3, 17, 40, 71]))  # places in the flattened [6 x 12]
    text = objective("aimv2").load().losses(model, some, tiny).terms["text_loss"]
    _, hidden = model(batch.image, batch.token_BT, batch.prefix_len_B)
    terms = []
    for place in some.supervised_N.tolist():
        b, t = divmod(place, 12)
        logits = model.decoder.text_head(hidden[b, t])
        terms.append(-F.log_softmax(logits, dim=-1)[batch.token_BT[b, t]])
    torch.testing.assert_close(text, torch.stack(terms).mean())


@pytest.mark.parametrize("order", ["raster", "spiral"])
@pytest.mark.parametrize("targets", ["raw", "standardised"])
def test_pixel_targets_are_patches_in_reading_order(tiny, batch, order, targets):
    config = changed(tiny, {"model.patch_order": order, "objective.pixel_targets": targets})
    expected = patchify(batch.image, config.model.patch_px)
    if targets == "standardised":
        expected = standardise(expected)
    found = pixel_targets(batch.image, config)
    if order == "raster":
        torch.testing.assert_close(found, expected)
    else:
        assert not torch.equal(found, expected)
        # The same patches in another order: every target is the closest to one patch.
        place = torch.cdist(found, expected).argmin(dim=2)
        assert (place.sort(dim=1).values == torch.arange(16)).all()
        torch.testing.assert_close(found[0], expected[0, place[0]])
