"""Features of the frozen encoder, and splits of them for probes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aimv2.evaluation.features import Encoded, Features, Standardised, encode, moments, scored
from aimv2.evaluation.held_out import network_inputs
from aimv2.objectives.build import build


def test_features_are_the_encoders(tiny, pairs):
    encoder = build(tiny).encoder
    images = np.stack([pairs.held_out.image(row) for row in range(21)])
    image = network_inputs(images[7:8], tiny)
    with torch.no_grad():
        full, causal = encoder(image), encoder(image, torch.ones(1, dtype=torch.int64))
    features = encode(encoder, images, tiny)
    assert features.shape == (21, 16, 32)
    assert not features.requires_grad
    torch.testing.assert_close(features[7:8], full)
    torch.testing.assert_close(encode(encoder, images, tiny, is_causal=True)[7:8], causal)


def test_features_of_the_held_out_images_are_computed_once(tiny, pairs):
    images = np.stack([pairs.held_out.image(row) for row in range(3)])
    encoded = Encoded(build(tiny).encoder, images, tiny)
    assert encoded.of(images, is_causal=False) is encoded.full
    assert encoded.of(images, is_causal=True) is encoded.causal
    assert not torch.equal(encoded.full, encoded.causal)
    torch.testing.assert_close(encoded.of(images[1:], is_causal=False), encoded.full[1:])


@torch.no_grad()
@pytest.mark.parametrize("is_whole", [True, False])
def test_no_row_or_column_of_a_whole_image_is_lost(tiny, is_whole):
    """Every border pixel of a small image, made white, reaches the features. The crop of glyphs loses some of them."""
    glyphs = replace(tiny, data=replace(tiny.data, sources=("openmoji",)))
    pictures = np.zeros((33, 8, 8, 3), dtype=np.uint8)
    for row, (edge, place) in enumerate((edge, place) for edge in (0, 7) for place in range(8)):
        pictures[1 + row, edge, place] = pictures[17 + row, place, edge] = 255
    feature_NID = encode(build(tiny).encoder, pictures, glyphs, is_whole=is_whole)
    assert bool((feature_NID[1:] != feature_NID[:1]).any(dim=(1, 2)).all()) == is_whole


def test_features_are_standardised_alike_in_memory_and_from_a_file():
    """The file has other rows too. float16 represents its values exactly."""
    values = np.random.default_rng(0).integers(-8, 8, (300, 2, 3)) + np.array([0, 100, -50])
    row_N = np.flatnonzero(np.arange(300) % 3)
    own = values[row_N]
    expected = (own - own.mean(axis=(0, 1))) / own.std(axis=(0, 1))
    nothing = torch.zeros(len(row_N), 1, dtype=torch.int64)
    in_memory = Features(torch.from_numpy(own).float(), nothing)
    in_file = Features(torch.from_numpy(values).half(), nothing, torch.from_numpy(row_N))
    for part in (in_memory, in_file):
        read = Standardised(part, *moments(part.feature_NID, torch.device("cpu"), part.row_N))
        assert len(read) == 200
        chosen = torch.tensor([7, 0, 199])
        np.testing.assert_allclose(read[chosen].numpy(), expected[chosen], atol=1e-4)


def test_features_on_the_host_move_to_the_device_in_batches():
    """The meta device stands in for a GPU: it refuses to compute with tensors of the CPU."""
    part = Features(torch.zeros(20, 4, 6, dtype=torch.float16), torch.zeros(20, 1, dtype=torch.int64))
    statistics = moments(part.feature_NID, torch.device("meta"))
    assert all(value.is_meta and value.dtype == torch.float32 for value in statistics)
    batch_BID = Standardised(part, *statistics)[torch.tensor([3, 1])]
    assert (batch_BID.is_meta, batch_BID.dtype, tuple(batch_BID.shape)) == (True, torch.float32, (2, 4, 6))
    assert part.feature_NID.device.type == "cpu"


def test_standardised_features_leave_those_that_are_saved_as_they_are():
    feature_NID = torch.randn(10, 4, 6, generator=torch.Generator().manual_seed(0))
    part, before = Features(feature_NID, torch.zeros(10, 1, dtype=torch.int64)), feature_NID.clone()
    mean_D, std_D = moments(feature_NID, torch.device("cpu"))
    whole = (before - mean_D) / std_D
    assert torch.equal(Standardised(part, mean_D, std_D)[torch.arange(10)], whole)
    assert torch.equal(feature_NID, before)


def test_score_counts_right_guesses_where_there_are_labels():
    score = scored(torch.tensor([[0, 1], [2, 2], [1, 0]]), torch.tensor([[0, 1], [2, -1], [0, -1]]))
    assert score.num_right_N.tolist() == [2, 1, 0]
    assert score.num_labels_N.tolist() == [2, 1, 1]
