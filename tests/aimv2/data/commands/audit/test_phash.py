import itertools

import numpy as np
import pytest
from aimv2.tools.data.audit.phash import MAX_DISTANCE, SIDE, distances, hashes, near_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image


def noise(seed, side=8):
    """Return a picture of random blobs."""
    small = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def slow_hash(picture):
    """Compute the hash from the definition of the cosine transform, bit by bit."""
    grey = picture.astype(float) @ (0.299, 0.587, 0.114)
    place = np.arange(SIDE)
    wave = [np.cos(np.pi * (2 * place + 1) * k / (2 * SIDE)) for k in range(SIDE)]
    scale = [np.sqrt((1 if k == 0 else 2) / SIDE) for k in range(SIDE)]
    lowest = sorted((u + v, v, u) for u, v in itertools.product(range(SIDE), repeat=2))[1:65]
    values = [scale[u] * scale[v] * (grey * np.outer(wave[u], wave[v])).sum() for _, v, u in lowest]
    return sum(1 << bit for bit, value in enumerate(values) if value > np.median(values))


def test_hashes_follow_the_definition():
    pictures = np.stack([noise(seed) for seed in range(5)])
    found, is_flat = hashes(pictures)
    assert found.tolist() == [slow_hash(picture) for picture in pictures]
    assert not is_flat.any()


def test_small_changes_keep_a_hash_and_other_pictures_differ():
    pictures = np.stack([noise(seed) for seed in range(20)])
    own, _ = hashes(pictures)
    darker, _ = hashes((pictures * 0.9).astype(np.uint8))
    assert (distances(own, darker) <= 4).all()
    others = [int(distances(own[[one]], own[[other]])[0]) for one, other in itertools.combinations(range(20), 2)]
    assert min(others) > 10


def test_pictures_of_one_colour_are_flat():
    pictures = np.full((2, SIDE, SIDE, 3), 200, dtype=np.uint8)
    pictures[1, ::2] = 220
    assert hashes(pictures)[1].tolist() == [True, False]


@settings(max_examples=30)
@given(
    st.integers(0, 2**32), st.integers(1, 60), st.integers(0, MAX_DISTANCE), st.lists(st.integers(0, 63), max_size=10)
)
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


def test_pairs_at_the_largest_distance_are_found_wherever_the_bits_are():
    generator = np.random.default_rng(0)
    for _ in range(50):
        one = int(generator.integers(0, 2**64, dtype=np.uint64))
        other = one ^ sum(1 << int(bit) for bit in generator.choice(64, MAX_DISTANCE, replace=False))
        assert len(near_pairs(np.unique(np.array([one, other], dtype=np.uint64)), MAX_DISTANCE)) == 1


@pytest.mark.parametrize("num", [0, 1])
def test_nothing_is_near_to_nothing(num):
    assert near_pairs(np.zeros(num, dtype=np.uint64), MAX_DISTANCE).shape == (0, 2)


def test_clusters_larger_than_a_chunk_are_complete():
    # 2500 hashes share three bands, so all are candidates of each other.
    hash_N = np.arange(2500, dtype=np.uint64) << np.uint64(48)
    bits = np.arange(2500)
    expected = sum(int((np.bitwise_count(bits[place + 1 :] ^ bits[place]) <= 2).sum()) for place in range(2500))
    assert len(near_pairs(hash_N, 2)) == expected
