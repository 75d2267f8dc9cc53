import numpy as np
from PIL import Image

from aimv2.data.commands.audit.known_copies import CHANGES, SIDE, measure


def blobs(seed):
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def test_compressed_copies_are_found_and_mirrored_ones_are_not():
    measured = measure([blobs(seed) for seed in range(10)], np.zeros(0, np.uint64), 6)
    assert measured.num_images == 10
    assert measured.found.keys() == CHANGES.keys()
    assert measured.found["JPEG quality 40"] == measured.found["half the size"] == 1
    assert measured.found["mirrored"] == 0


def test_false_pairs_are_counted_among_all_pairs():
    looks = np.array([0b0, 0b111, 2**64 - 1], dtype=np.uint64)
    measured = measure([], looks, 3)
    assert (measured.false, measured.num_pairs, measured.found) == (1, 3, {})
    assert measure([], looks, 2).false == 0


def test_pictures_of_one_colour_are_not_measured():
    assert measure([np.zeros((SIDE, SIDE, 3), np.uint8)], np.zeros(0, np.uint64), 6).found == {}
