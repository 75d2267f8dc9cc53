import torch

from aimv2.data.batches import centred_images
from aimv2.data.transfer import digits
from aimv2.evaluation.evaluate import encode
from aimv2.model.network import build


def test_features_are_the_encoders_with_full_attention(tiny):
    encoder = build(tiny).encoder
    part = digits().validation
    features = encode(encoder, part, tiny)
    assert features.feature_NID.shape == (len(part), 16, 32)
    assert not features.feature_NID.requires_grad
    assert features.label_N.tolist() == part.labels.tolist()
    with torch.no_grad():
        one = encoder(centred_images(part.images[7:8], 16))
    torch.testing.assert_close(features.feature_NID[7:8], one)
