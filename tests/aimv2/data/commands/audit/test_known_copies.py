import numpy as np
from aimv2.tools.data.audit import phash
from aimv2.tools.data.audit.findings import THRESHOLD
from aimv2.tools.data.audit.known_copies import CHANGES, SIDE, measure
from PIL import Image
from sklearn.datasets import load_sample_images


def blobs(seed):
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def photographs(num):
    """Return parts of two photographs, which do not overlap if they are of different ones."""
    found = []
    for number, photograph in enumerate(load_sample_images().images):
        generator = np.random.default_rng(number)
        for _ in range(num // 2):
            side = int(generator.integers(120, 260))
            top, left = (int(generator.integers(0, length - side)) for length in photograph.shape[:2])
            part = Image.fromarray(photograph[top : top + side, left : left + side])
            found.append(np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
    return found


def test_the_threshold_tells_copies_of_photographs_from_other_photographs():
    pictures = photographs(120)
    measured = measure(pictures, np.zeros(0, np.uint64), THRESHOLD)
    for name in ("JPEG quality 40", "half the size", "grey", "contrast x 1.3"):
        assert measured.found[name] > 0.93, name
    assert measured.found["5 % cropped"] > 0.4
    assert measured.found["mirrored"] < 0.05
    small = [np.asarray(Image.fromarray(picture).resize((phash.SIDE,) * 2, 3)) for picture in pictures]
    look_N = phash.hashes(np.stack(small))[0].reshape(2, -1)
    between = phash.distances(look_N[0][:, None], look_N[1])  # of parts of different photographs
    assert (between <= THRESHOLD).mean() < 1e-3


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
