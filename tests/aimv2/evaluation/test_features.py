from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aimv2.evaluation.features import Encoded, encode, on_device
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


def test_saved_features_are_read_on_the_device_in_float32():
    computation = SimpleNamespace(device="meta", precision="bfloat16")  # in the place of a GPU
    saved = on_device(torch.zeros(2, 16, 32, dtype=torch.float16), computation)
    assert (saved.is_meta, saved.dtype) == (True, torch.float32)


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
