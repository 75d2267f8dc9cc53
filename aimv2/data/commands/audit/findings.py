"""What the facts of samples say: counts, duplicates, leakage. Letters: N facts, U perceptual hashes, K pairs of these.

A *part* is one side of one source. Facts of all parts stand one after the other, so that each is compared with each.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from aimv2.base.errors import REASONS
from aimv2.data.pairs import CAPTION_KINDS, CaptionKind
from aimv2.tools.data.audit import phash
from aimv2.tools.data.audit.recognise import IMAGE_FORMATS, SCRIPTS
from aimv2.tools.data.audit.survey import NO_PROBLEM

THRESHOLD = 6  # bits; every page measures what it finds and what it mistakes, a test does so on photographs
PERCENTILES = (1, 25, 50, 75, 99)
MOST = 10  # captions that are listed


class Part(NamedTuple):
    """One side of a source: how many pairs it has, and the facts of those that were read."""

    source: str
    side: str
    num_pairs: int
    fact_N: np.ndarray

    @property
    def name(self) -> str:
        return f"{self.source} {self.side}"

    @property
    def is_whole(self) -> bool:
        return len(self.fact_N) == self.num_pairs


@dataclass(frozen=True)
class Leak:
    """Images of one part that another part has too.

    Attributes:
        num: images of ``of`` that were compared.
        exact: of these, how many have a file with the same bytes in ``within``.
        near: how many have a near copy there, or the same bytes.
        near_and_caption: how many have one with the same caption.
    """

    of: str
    within: str
    num: int
    exact: int
    near: int
    near_and_caption: int


class Copies:
    """Near copies among the images of all parts.

    Attributes:
        look_U: the different perceptual hashes, ascending.
        pair_K2: pairs of places in ``look_U`` that differ in at most THRESHOLD bits.
    """

    def __init__(self, parts: Sequence[Part], threshold: int = THRESHOLD) -> None:
        self.look_U = np.unique(np.concatenate([part.fact_N["look"][_comparable(part.fact_N)] for part in parts]))
        self.pair_K2 = phash.near_pairs(self.look_U, threshold)
        size = len(self.look_U)
        both_K2 = np.concatenate([self.pair_K2, self.pair_K2[:, ::-1], np.arange(size)[:, None].repeat(2, axis=1)])
        ones = np.ones(len(both_K2), np.int32)
        self._near_UU = csr_array((ones, (both_K2[:, 0], both_K2[:, 1])), shape=(size, size))  # each is near itself

    def places(self, fact_N: np.ndarray) -> np.ndarray:
        """Return the places of the hashes of comparable facts: int64 [N]."""
        return np.searchsorted(self.look_U, fact_N["look"])

    def num_with_copy(self, fact_N: np.ndarray) -> int:
        """Return the number of images that have a near copy among them, with other bytes."""
        fact_N = fact_N[_comparable(fact_N)]
        first_N = np.unique(fact_N["content"], return_index=True)[1]
        num_contents_U = np.bincount(self.places(fact_N[first_N]), minlength=len(self.look_U))
        num_near_U = np.asarray(self._near_UU @ num_contents_U)
        return int((num_near_U[self.places(fact_N)] > 1).sum())

    def is_near(self, fact_N: np.ndarray, other_N: np.ndarray) -> np.ndarray:
        """True for the facts with a near copy among others: bool [N]."""
        is_there_U = np.zeros(len(self.look_U), np.int32)
        is_there_U[self.places(other_N)] = 1
        is_near_U: np.ndarray = np.asarray(self._near_UU @ is_there_U) > 0
        near_N: np.ndarray = is_near_U[self.places(fact_N)]
        return near_N

    def has_same_caption(self, fact_N: np.ndarray, other_N: np.ndarray) -> np.ndarray:
        """True for the facts with a near copy among others that has an equal caption of any kind: bool [N]."""
        place_N = self.places(fact_N)
        count_N = np.diff(self._near_UU.indptr)[place_N]
        owner_K = np.repeat(np.arange(len(fact_N)), count_N)
        start_N = self._near_UU.indptr[place_N].astype(np.int64)
        offset_K = np.arange(len(owner_K)) - np.repeat(np.cumsum(count_N) - count_N, count_N)
        near_K = self._near_UU.indices[np.repeat(start_N, count_N) + offset_K]
        found_N = np.zeros(len(fact_N), bool)
        for kind in range(len(CAPTION_KINDS)):
            there = _keyed(self.places(other_N), other_N["caption"][:, kind])[other_N["caption"][:, kind] != 0]
            caption_K = fact_N["caption"][owner_K, kind]
            is_same_K = (caption_K != 0) & np.isin(_keyed(near_K, caption_K), there)
            found_N[owner_K[is_same_K]] = True
        return found_N


def leaks(parts: Sequence[Part], copies: Copies) -> list[Leak]:
    """Compare every part with every other one; the parts that training shows come first, as ``within``."""
    ordered = sorted(parts, key=lambda part: part.side != "train")
    return [_leak(of, within, copies) for number, within in enumerate(ordered) for of in ordered[number + 1 :]]


def _leak(of: Part, within: Part, copies: Copies) -> Leak:
    one_N, other_N = (part.fact_N[part.fact_N["content"] != 0] for part in (of, within))
    is_exact_N = np.isin(one_N["content"], other_N["content"])
    is_near_N, is_same_N = is_exact_N.copy(), np.zeros(len(one_N), bool)
    can_N, other_N = _comparable(one_N), other_N[_comparable(other_N)]
    is_near_N[can_N] |= copies.is_near(one_N[can_N], other_N)
    is_same_N[can_N] = copies.has_same_caption(one_N[can_N], other_N)
    counts = (int(is_N.sum()) for is_N in (is_exact_N, is_near_N, is_same_N))
    return Leak(of.name, within.name, len(one_N), *counts)


def _comparable(fact_N: np.ndarray) -> np.ndarray:
    """True for images with a perceptual hash."""
    is_comparable_N: np.ndarray = (fact_N["problem"] == NO_PROBLEM) & ~fact_N["is_flat"]
    return is_comparable_N


def _keyed(place_N: np.ndarray, caption_N: np.ndarray) -> np.ndarray:
    """Return one number for a place and a caption."""
    keyed_N: np.ndarray = caption_N ^ ((place_N.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    return keyed_N


def images(fact_N: np.ndarray, copies: Copies) -> dict[str, Any]:
    """Return what the images of a source are: formats, modes, sizes, problems and duplicates."""
    usable_N = fact_N[fact_N["problem"] == NO_PROBLEM]
    present_N = fact_N[fact_N["content"] != 0]
    is_file_N = usable_N["num_bytes"] > 0
    return {
        "read": len(fact_N),
        "problems": _counts(fact_N["problem"][fact_N["problem"] != NO_PROBLEM], REASONS),
        "formats": _counts(present_N["format"], IMAGE_FORMATS),
        "modes": dict(Counter(mode.decode() for mode in usable_N["mode"].tolist()).most_common()),
        "shorter side in px": _percentiles(np.minimum(usable_N["width"], usable_N["height"])),
        "longer side in px": _percentiles(np.maximum(usable_N["width"], usable_N["height"])),
        "width / height": _percentiles(usable_N["width"] / np.maximum(usable_N["height"], 1)),
        "bytes": _percentiles(usable_N["num_bytes"][is_file_N]),
        "exact copies": len(present_N) - len(np.unique(present_N["content"])),
        "one colour": int(usable_N["is_flat"].sum()),
        "with a near copy": copies.num_with_copy(fact_N),
    }


def captions(
    fact_N: np.ndarray, kind: CaptionKind, max_tokens: int | None, text_of: Callable[[int], str]
) -> dict[str, Any]:
    """Return what the captions of a kind are: problems, lengths, scripts and duplicates.

    Args:
        max_tokens: tokens of a caption that a run sees; None if tokens were not counted.
        text_of: maps the place of a fact to its caption.
    """
    place = CAPTION_KINDS.index(kind)
    problem_N = fact_N["caption_problem"][:, place]
    usable = np.flatnonzero(problem_N == NO_PROBLEM)
    hash_N, first_N, count_N = np.unique(fact_N["caption"][usable, place], return_index=True, return_counts=True)
    order = np.argsort(-count_N, kind="stable")[:MOST]
    tokens_N = fact_N["tokens"][usable, place]
    found = {
        "read": len(fact_N),
        "problems": _counts(problem_N[problem_N != NO_PROBLEM], REASONS),
        "words": _percentiles(fact_N["words"][usable, place]),
        "scripts": _counts(fact_N["script"][usable, place], SCRIPTS),
        "repeated": len(usable) - len(hash_N),
        "most frequent": [
            {"caption": text_of(int(usable[first_N[which]])), "times": int(count_N[which])}
            for which in order
            if count_N[which] > 1
        ],
    }
    if max_tokens is not None:
        # One place is for end-of-text.
        found |= {"tokens": _percentiles(tokens_N), "truncated": int((tokens_N > max_tokens - 1).sum())}
    return found


def examples(parts: Sequence[Part], copies: Copies, num: int) -> list[tuple[tuple[int, int], tuple[int, int], int]]:
    """Return pairs of near copies with other bytes: (part, fact) of both, and their distance, from 0 on evenly."""
    place, number, look, content = [], [], [], []
    for part_number, part in enumerate(parts):
        (chosen,) = np.nonzero(_comparable(part.fact_N))
        place.append(np.full(len(chosen), part_number))
        number.append(chosen)
        look.append(copies.places(part.fact_N[chosen]))
        content.append(part.fact_N["content"][chosen])
    part_N, fact_N, look_N, content_N = (np.concatenate(values) for values in (place, number, look, content))
    order_N = np.lexsort((content_N, look_N))
    look_N, content_N = look_N[order_N], content_N[order_N]
    same_K = np.flatnonzero((look_N[1:] == look_N[:-1]) & (content_N[1:] != content_N[:-1]))
    pairs = np.concatenate(
        [np.stack([same_K, same_K + 1], axis=1), np.searchsorted(look_N, copies.pair_K2)]
    )  # places in the order of hashes
    distance_K = phash.distances(*(copies.look_U[look_N[pairs[:, side]]] for side in (0, 1)))
    pairs = pairs[np.argsort(distance_K, kind="stable")]
    chosen_K = np.unique(np.linspace(0, len(pairs) - 1, min(num, len(pairs))).round().astype(np.int64))
    found = []
    for one, other in pairs[chosen_K].tolist():
        a, b = int(order_N[one]), int(order_N[other])
        distance = phash.distances(*(copies.look_U[look_N[[which]]] for which in (one, other)))
        found.append(((int(part_N[a]), int(fact_N[a])), (int(part_N[b]), int(fact_N[b])), int(distance[0])))
    return found


def _counts(code_N: np.ndarray, names: Sequence[str]) -> dict[str, int]:
    """Return how often each name occurs, the most frequent first."""
    code, count = np.unique(code_N, return_counts=True)
    pairs = sorted(zip(count.tolist(), code.tolist(), strict=True), reverse=True)
    return {names[number]: times for times, number in pairs}


def _percentiles(value_N: np.ndarray) -> dict[str, float]:
    """Return smallest and largest value and percentiles; nothing if there is no value."""
    if not len(value_N):
        return {}
    values = np.percentile(value_N, (0, *PERCENTILES, 100)).tolist()
    names = ("min", *(f"{percentile} %" for percentile in PERCENTILES), "max")
    return dict(zip(names, (round(value, 3) for value in values), strict=True))
