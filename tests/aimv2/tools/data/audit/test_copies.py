import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from aimv2.tools.data.audit.copies import CHANGED_SIDE, CHANGES, THRESHOLD, look, measured, near_pairs


def resized(picture):
    return np.asarray(Image.fromarray(picture).resize((CHANGED_SIDE, CHANGED_SIDE), Image.Resampling.BICUBIC))


def blobs(seed):
    return resized(np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8))


def photographs(num):
    """Return parts of two photographs, as many of each."""
    found = []
    for number, photograph in enumerate(load_sample_images().images):
        generator = np.random.default_rng(number)
        for _ in range(num // 2):
            side = int(generator.integers(120, 260))
            top, left = (int(generator.integers(0, length - side)) for length in photograph.shape[:2])
            found.append(resized(photograph[top : top + side, left : left + side]))
    return found


def test_copies_of_photographs_are_told_from_other_photographs():
    pictures = photographs(120)
    found = measured(pictures, np.zeros(0, np.uint64))["found"]
    for name in ("JPEG quality 40", "half the size", "grey", "contrast x 1.3"):
        assert found[name] > 0.95, name
    assert found["5 % cropped"] > 0.4
    assert found["mirrored"] < 0.05
    one, other = np.array([look(picture) for picture in pictures], np.uint64).reshape(2, -1)
    between = np.bitwise_count(one[:, None] ^ other)  # of parts of different photographs
    assert (between <= THRESHOLD).mean() < 1e-3


def test_every_change_is_measured_and_mistakes_are_counted_among_all_pairs():
    looks = np.array([0, 2**THRESHOLD - 1, 2**64 - 1], np.uint64)
    found = measured([blobs(seed) for seed in range(10)] + [np.zeros((CHANGED_SIDE, CHANGED_SIDE, 3), np.uint8)], looks)
    assert found["found"].keys() == CHANGES.keys()
    assert found["found"]["half the size"] == 1
    assert found["found"]["mirrored"] == 0
    assert found["images changed"] == 10  # those of one colour are not
    assert (found["different images that are near"], found["of pairs"]) == (1, 3)
    assert measured([], looks)["found"] == {}


def test_pictures_of_almost_one_colour_have_no_hash():
    picture = np.full((64, 64, 3), 200, np.uint8)
    assert look(picture) is None
    picture[:32] = 220
    assert look(picture) is not None


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(0, 9), st.lists(st.integers(0, 63), max_size=10))
def test_near_pairs_are_those_of_the_obvious_loop(seed, num, max_distance, flips):
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 2**64, num, dtype=np.uint64)
    near = [int(value) ^ (1 << bit) for value, bit in zip(values.tolist() * 10, flips, strict=False)]
    chain = [int(values[0]) ^ sum(1 << bit for bit in set(flips[:end])) for end in range(len(flips))]
    hash_N = np.unique(np.array([*values.tolist(), *near, *chain], dtype=np.uint64))
    expected = [
        [one, other]
        for one, other in itertools.combinations(range(len(hash_N)), 2)
        if (int(hash_N[one]) ^ int(hash_N[other])).bit_count() <= max_distance
    ]
    assert near_pairs(hash_N, max_distance).tolist() == expected


@pytest.mark.parametrize("num", [0, 1])
def test_nothing_is_near_to_nothing(num):
    assert near_pairs(np.zeros(num, dtype=np.uint64)).shape == (0, 2)


def test_groups_larger_than_a_chunk_are_complete():
    hash_N = np.arange(2500, dtype=np.uint64) << np.uint64(48)  # equal in most bands
    bits = np.arange(2500)
    expected = sum(int((np.bitwise_count(bits[place + 1 :] ^ bits[place]) <= 2).sum()) for place in range(2500))
    assert len(near_pairs(hash_N, 2)) == expected
