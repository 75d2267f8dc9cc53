import torch

from aimv2.model.decoder import Decoder
from aimv2.model.initial import init_weights_
from aimv2.model.network import CaptionReader


def test_reader_is_a_decoder_of_standardised_features(tiny):
    generator = torch.Generator().manual_seed(0)
    feature_NID = torch.randn(6, 16, 32, generator=generator)
    mean_D, std_D = torch.arange(32.0), torch.logspace(-1, 1, 32)
    reader, plain = CaptionReader(tiny.model, mean_D, std_D), Decoder(tiny.model, ("tokens",))
    init_weights_(reader, seed=1)
    plain.load_state_dict(dict(reader.decoder.named_parameters()))
    token_BT = torch.randint(0, 512, (6, 5), generator=generator)
    expected = plain(feature_NID, token_BT)
    for found, other in zip(reader.decoder(feature_NID * std_D + mean_D, token_BT), expected, strict=True):
        torch.testing.assert_close(found, other, atol=1e-4, rtol=1e-4)
