"""A metric's view of a model: the held-out images, and the features that other metrics read too."""

import torch

from aimv2.evaluation.features import Encoded, encode
from aimv2.evaluation.held_out import Words, prepare_pairs
from aimv2.evaluation.trained import TrainedModel
from aimv2.objectives.build import build


def test_features_are_those_of_the_frozen_encoder(tiny, pairs):
    network, held_out = build(tiny), prepare_pairs(pairs.held_out.subset(6), Words.of(pairs.tokenizer, tiny))
    encoded = Encoded(network.encoder, held_out.images, tiny)
    model = TrainedModel(network, tiny, held_out, encoded, list)
    assert len(model.images) == len(model.items) == 6
    assert model.features() is model.features() is encoded.full
    assert model.features(is_causal=True) is encoded.causal
    torch.testing.assert_close(model.features(model.images[:2]), encode(network.encoder, held_out.images[:2], tiny))
