"""Held-out pairs, prepared once for all evaluations. Letters: N pairs, T caption tokens, W words."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from aimv2.base.errors import BadSampleError, RunFailedError
from aimv2.base.processes import in_threads
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import CAPTION_KINDS, CaptionKind, Pairs, filled
from aimv2.data.sources.scene import Caption, WordClass
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transforms import CENTRE_CROP, centred_images

CLASSES: tuple[WordClass, ...] = get_args(WordClass)
OTHER = CLASSES.index("other")
NUM_NAMED = 3  # bad pairs that a message names


@dataclass(frozen=True)
class Captions:
    """Captions as tokens.

    Attributes:
        token_NT: int64, padded with end-of-text.
        supervised_NT: bool, True where a token is predicted.
        class_NT: int8, the class of the token's word, an index of ``CLASSES``; end-of-text is ``other``.
        text_len_N: int64, tokens up to and including end-of-text.
        num_bytes_N: int64, bytes that the supervised tokens spell.
    """

    token_NT: Tensor
    supervised_NT: Tensor
    class_NT: Tensor
    text_len_N: Tensor
    num_bytes_N: Tensor

    def __len__(self) -> int:
        return len(self.token_NT)

    @cached_property
    def num_read_N(self) -> Tensor:
        """The tokens of each caption up to and including the last one that is predicted: int64 [N]."""
        place_T = torch.arange(1, self.token_NT.shape[1] + 1)
        return (place_T * self.supervised_NT).amax(dim=1)

    @classmethod
    def joined(cls, parts: Sequence["Captions"]) -> "Captions":
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def rows(self, row_M: np.ndarray) -> "Captions":
        return Captions(*(getattr(self, field.name)[row_M] for field in fields(self)))

    def of_class(self, *classes: WordClass) -> Tensor:
        """Return True for the predicted tokens of these classes: bool [N, T]."""
        wanted = torch.tensor([CLASSES.index(name) for name in classes], dtype=self.class_NT.dtype)
        return self.supervised_NT & torch.isin(self.class_NT, wanted)


@dataclass(frozen=True)
class HeldOutPairs:
    """Held-out pairs that can be used, by row: images uint8 [N, S, S, 3], both captions, and numbers as ``Items``."""

    row_N: np.ndarray
    images: np.ndarray
    item_N: np.ndarray
    short: Captions
    dense: Captions

    def __len__(self) -> int:
        return len(self.images)

    def first(self, num_pairs: int) -> "HeldOutPairs":
        row_M, images, item_M = (part[:num_pairs] for part in (self.row_N, self.images, self.item_N))
        some_M = np.arange(len(images))
        return HeldOutPairs(row_M, images, item_M, self.short.rows(some_M), self.dense.rows(some_M))


class Words(NamedTuple):
    """How captions become tokens: at most ``max_tokens``, the last of which may be supervised (``supervise_eos``)."""

    tokenizer: CaptionTokenizer
    max_tokens: int
    supervise_eos: bool

    @classmethod
    def of(cls, tokenizer: CaptionTokenizer, config: RunConfig) -> "Words":
        return cls(tokenizer, config.model.max_text_tokens, config.objective.supervise_eos)


def read_pairs(pairs: Pairs, max_bad_rate: float) -> tuple[np.ndarray, np.ndarray, dict[CaptionKind, list[Caption]]]:
    """Read all pairs but those that cannot be used; a RunFailedError if these are all, or more than the rate allows.

    Returns:
        the rows that can be used, int64 [N], their images, uint8 [N, S, S, 3], and their captions of both kinds.
    """
    rows: list[int] = []
    captions: dict[CaptionKind, list[Caption]] = {kind: [] for kind in CAPTION_KINDS}
    bad: dict[int, str] = {}  # reasons by row

    def read(row: int) -> tuple[np.ndarray, list[Caption]] | BadSampleError:
        try:
            return pairs.image(row), [pairs.caption(row, kind) for kind in CAPTION_KINDS]
        except BadSampleError as error:
            return error

    def usable() -> Iterator[np.ndarray]:
        for row, pair in enumerate(in_threads(read, range(len(pairs)), pairs.concurrency)):
            if isinstance(pair, BadSampleError):
                bad[row] = pair.reason
                continue
            image, texts = pair
            rows.append(row)
            for kind, caption in zip(CAPTION_KINDS, texts, strict=True):
                captions[kind].append(caption)
            yield image

    images = filled(len(pairs), usable())
    if not rows or len(bad) > max_bad_rate * len(pairs):
        counts = ", ".join(f"{reason} {count:,}" for reason, count in Counter(bad.values()).most_common())
        first = ", ".join(pairs.keys(np.array(list(bad)[:NUM_NAMED])))
        raise RunFailedError(
            "data",
            f"{len(bad):,} of {len(pairs):,} held-out pairs are bad ({counts}), more than"
            f" data.max_bad_rate={max_bad_rate:g}; the first are {first}",
        )
    return np.array(rows), images, captions


def prepare_pairs(pairs: Pairs, words: Words, max_bad_rate: float = 0.0) -> HeldOutPairs:
    """Return the images of the pairs with both captions; errors as ``read_pairs``."""
    row_N, images, captions = read_pairs(pairs, max_bad_rate)
    short, dense = (prepare_captions(captions[kind], words) for kind in CAPTION_KINDS)
    return HeldOutPairs(row_N, images, pairs.items(row_N), short, dense)


def prepare_captions(captions: Sequence[Caption], words: Words) -> Captions:
    tokenizer, max_tokens, supervise_eos = words
    texts = [caption.text for caption in captions]
    token_NT = tokenizer.encode(texts, max_tokens)
    word_NT = tokenizer.token_words([caption.words for caption in captions], max_tokens)
    num_words = max((len(caption.words) for caption in captions), default=0)
    class_NW = np.full((len(captions), num_words + 1), OTHER, dtype=np.int8)  # the last column is that of word -1
    for class_W, caption in zip(class_NW, captions, strict=True):
        class_W[: len(caption.words)] = [CLASSES.index(name) for name in caption.classes]
    return Captions(
        token_NT=torch.from_numpy(token_NT),
        supervised_NT=torch.from_numpy(tokenizer.supervised(token_NT, supervise_eos=supervise_eos)),
        class_NT=torch.from_numpy(np.take_along_axis(class_NW, word_NT % (num_words + 1), axis=1)),
        text_len_N=torch.from_numpy(tokenizer.lengths(token_NT)),
        num_bytes_N=torch.from_numpy(tokenizer.num_bytes(texts, max_tokens)),
    )


def network_inputs(images: np.ndarray, config: RunConfig, *, is_whole: bool = False) -> Tensor:
    """Crop images uint8 [N, S, S, 3] as for all evaluations: float32 [N, 3, P, P].

    Scenes are shown whole, because a crop would lose parts of the objects that captions and labels name.
    """
    return centred_images(images, config.model.image_px, 1.0 if is_whole or config.data.has_scenes else CENTRE_CROP)


def other_images(captions: Captions) -> np.ndarray:
    """Return for each pair the row of the next one with another caption, the first row after the last: int64 [N].

    If all captions are equal there is none, and each pair keeps its own.
    """
    _, text_N = torch.unique(captions.token_NT, dim=0, return_inverse=True)
    num_pairs = len(captions)
    row_N = np.arange(num_pairs)
    other_N, label_N = row_N.copy(), text_N.numpy()
    for shift in range(1, num_pairs):
        is_open_N = label_N[other_N] == label_N
        if not is_open_N.any():
            break
        other_N[is_open_N] = (row_N[is_open_N] + shift) % num_pairs
    return np.where(label_N[other_N] == label_N, row_N, other_N)


def chunks(num_rows: int, size: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]
