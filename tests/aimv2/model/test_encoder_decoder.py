import torch

from aimv2.model.network import build


@torch.no_grad()
def test_forward_decodes_the_masked_features(tiny, batch):
    model = build(tiny)
    actual = model(batch.image, batch.token_BT, batch.prefix_len_B, batch.text_len_B)
    expected = model.decoder(model.encoder(batch.image, batch.prefix_len_B), batch.token_BT, batch.text_len_B)
    assert all(torch.equal(*pair) for pair in zip(actual, expected, strict=True))
    unmasked = model(batch.image, batch.token_BT)
    assert not torch.equal(unmasked[0], actual[0])
