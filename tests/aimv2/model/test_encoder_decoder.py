from dataclasses import replace

import pytest
import torch

from aimv2.model.decoder import Decoder, SeparateDecoders
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.model.network import build


@pytest.mark.parametrize(("sharing", "kind"), [("joint", Decoder), ("separate", SeparateDecoders)])
def test_decoder_is_of_the_configured_kind(tiny, sharing, kind):
    model = EncoderDecoder(replace(tiny.model, decoder=replace(tiny.model.decoder, sharing=sharing)))
    assert type(model.decoder) is kind
    assert {"pixel_head.weight", "text_head.weight"} <= {
        name.removeprefix("decoder.").removeprefix("pixels.").removeprefix("tokens.") for name in model.state_dict()
    }


@torch.no_grad()
def test_forward_decodes_the_masked_features(tiny, batch):
    model = build(tiny)
    actual = model(batch.image, batch.token_BT, batch.prefix_len_B, batch.text_len_B)
    expected = model.decoder(model.encoder(batch.image, batch.prefix_len_B), batch.token_BT, batch.text_len_B)
    assert all(torch.equal(*pair) for pair in zip(actual, expected, strict=True))
    unmasked = model(batch.image, batch.token_BT)
    assert not torch.equal(unmasked[0], actual[0])
