"""Glyphs that are alike, which must not be split between training and held-out pairs. Letters: N glyphs, P pixels.

Glyphs are joined by equal concepts, by equal names, and by pictures that are near copies. Groups are formed over all
our sources, whatever a run reads, and from pictures of one size; those of a plug-in also over its own. A glyph is
therefore on the same side in every run.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from aimv2.data.sources.glyphs import SOURCES, Glyph, glyphs_in
from aimv2.data.text import clean

RENDER_PX = 32
# Squared distance of two shapes over their mean square. Pairs below it differ in a few pixels: a letter on the same
# disc, a face with another mouth. Above it, groups of a hundred icons start to join through chains of small steps.
NEAR_COPY = 0.015
CHUNK = 1024  # rows of the distance matrix at a time


@lru_cache(maxsize=1)
def groups(source: str = "") -> dict[str, str]:
    """Return the group of every glyph of our sources, and of that of a plug-in, by its key.

    Args:
        source: of a plug-in; empty for none.

    Raises:
        ImportError: a package of a source is not installed (``glyphs.version`` checks).
        UsageError: as in ``glyphs_in``.
    """
    return group_names([glyph for listed in filter(None, [*SOURCES, source]) for glyph in glyphs_in(listed)])


def group_names(found: Sequence[Glyph]) -> dict[str, str]:
    """Return the group of each glyph by its key: the first, in alphabetical order, of the concepts in the group."""
    from scipy.sparse import coo_array  # here, because rendered pairs load without it
    from scipy.sparse.csgraph import connected_components

    links = np.concatenate(
        [
            _same([glyph.concept for glyph in found]),
            _same([clean(glyph.name) for glyph in found]),
            near_copies(np.stack([shape(glyph.render(RENDER_PX)) for glyph in found])),
        ]
    )
    graph = coo_array((np.ones(len(links)), links.T), shape=(len(found), len(found)))
    group_N = connected_components(graph, directed=False)[1].tolist()
    first: dict[int, str] = {}
    for group, glyph in zip(group_N, found, strict=True):
        first[group] = min(first.get(group, glyph.concept), glyph.concept)
    return {glyph.key: first[group] for group, glyph in zip(group_N, found, strict=True)}


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


def near_copies(shape_NP: np.ndarray) -> np.ndarray:
    """Return the pairs of shapes that are near copies: int64 [K, 2], places in the input, lower first.

    Args:
        shape_NP: uint8 [N, P], P at most 256.
    """
    found = []
    for start in range(0, len(shape_NP), CHUNK):
        one, other = np.nonzero(are_near(shape_NP[start : start + CHUNK], shape_NP[start:]))
        found.append(start + np.stack([one, other], axis=1)[one < other])
    return np.concatenate(found)


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


def _same(values: Sequence[str]) -> np.ndarray:
    """Return each place with the first one of an equal value: int64 [N, 2]."""
    first: dict[str, int] = {}
    return np.array([(place, first.setdefault(value, place)) for place, value in enumerate(values)])
