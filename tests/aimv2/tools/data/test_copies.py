import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

from aimv2.tools.data.copies import THRESHOLD, look, near_pairs
from tests.helpers.marks import exhaustive


def resized(picture):
    return np.asarray(Image.fromarray(picture).resize((224, 224), Image.Resampling.BICUBIC))


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


def recompressed(image):
    image.save(content := io.BytesIO(), "JPEG", quality=40)
    return Image.open(content)


@pytest.mark.parametrize(
    ("change", "least", "most"),
    [
        (recompressed, 0.95, 1),
        exhaustive(lambda image: image.resize((112, 112), Image.Resampling.BICUBIC), 0.95, 1),
        exhaustive(lambda image: image.convert("L").convert("RGB"), 0.95, 1),
        exhaustive(lambda image: ImageEnhance.Contrast(image).enhance(1.3), 0.95, 1),
        (lambda image: image.crop((6, 6, 218, 218)), 0.4, 1),
        (lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 0, 0.05),
    ],
    ids=["jpeg", "half", "grey", "contrast", "cropped", "mirrored"],
)
def test_changed_photographs_are_found(change, least, most):
    pictures = photographs(120)
    changed = [look(np.asarray(change(Image.fromarray(picture)))) for picture in pictures]
    found = [(look(picture) ^ other).bit_count() <= THRESHOLD for picture, other in zip(pictures, changed, strict=True)]
    assert least <= np.mean(found) <= most


def test_mirrored_photographs_are_found_by_the_hash_of_a_mirrored_picture():
    pictures = photographs(60)
    changed = [np.asarray(recompressed(Image.fromarray(picture[:, ::-1]))) for picture in pictures]
    found = [
        (look(picture) ^ look(other[:, ::-1])).bit_count() <= THRESHOLD
        for picture, other in zip(pictures, changed, strict=True)
    ]
    assert np.mean(found) > 0.95


def test_parts_of_different_photographs_are_told_apart():
    one, other = np.array([look(picture) for picture in photographs(120)], np.uint64).reshape(2, -1)
    assert (np.bitwise_count(one[:, None] ^ other) <= THRESHOLD).mean() < 1e-3


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
