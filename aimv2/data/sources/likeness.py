"""Pictures that are near copies of each other. Letters: C and N glyphs, P pixels."""

import numpy as np

RENDER_PX = 32
# Squared distance of two shapes over their mean square. Pairs below it differ in a few pixels: a letter on the same
# disc, a face with another mouth.
NEAR_COPY = 0.015


def shape(picture: np.ndarray) -> np.ndarray:
    """Return what a picture shows, whatever its ink and paper: uint8 [P], the contrast of each 2 x 2 square.

    Args:
        picture: uint8 [S, S, 3] with paper in its first corner.
    """
    contrast_SS = np.abs(picture.astype(np.int64) - picture[0, 0]).sum(axis=-1)
    scaled_SS = 255 * contrast_SS // max(int(contrast_SS.max()), 1)
    half = len(picture) // 2
    squares: np.ndarray = scaled_SS.reshape(half, 2, half, 2).sum(axis=(1, 3)) // 4
    return squares.astype(np.uint8).ravel()


def are_near(one_CP: np.ndarray, other_NP: np.ndarray) -> np.ndarray:
    """True where two shapes are near copies: bool [C, N].

    Args:
        one_CP, other_NP: uint8, P at most 256.
    """
    # Sums of at most 256 products of bytes are integers below 2^24, which float32 holds exactly on every machine.
    assert other_NP.shape[1] <= 256
    one_CP, other_NP = one_CP.astype(np.float32), other_NP.astype(np.float32)
    square_C, square_N = ((value**2).sum(axis=1).astype(np.float64) for value in (one_CP, other_NP))
    sum_CN = square_C[:, None] + square_N
    distance_CN = sum_CN - 2 * (one_CP @ other_NP.T).astype(np.float64)
    near_CN: np.ndarray = distance_CN <= NEAR_COPY * sum_CN / 2
    return near_CN
