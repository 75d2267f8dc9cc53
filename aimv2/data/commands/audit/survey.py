"""Facts about samples, read in parallel processes. Letters: B rows of a task, N rows of a side, C caption kinds.

A sample becomes a record of fixed size, so that memory grows with the number of samples that are read, not with their
content. No image or caption leaves the process that reads it.
"""

import dataclasses
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from itertools import starmap
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

from aimv2.base import address
from aimv2.base.address import Bijection
from aimv2.base.errors import REASONS, BadSampleError
from aimv2.config.data_config import DataConfig, is_described, source_name
from aimv2.data.decode import FORMATS, square
from aimv2.data.pairs import CAPTION_KINDS, CaptionKind, Pairs, Picture
from aimv2.data.prepare import open_source
from aimv2.datasets.description import Location, SourceDescription, read_labelled, read_source
from aimv2.datasets.file_pairs import FilePairs
from aimv2.datasets.open import open_location
from aimv2.tools.data.audit import phash
from aimv2.tools.data.audit.recognise import IMAGE_FORMATS, SCRIPTS, image_format, script
from aimv2.tools.data.index import SPLITS, is_labelled

TASK = 256  # rows that a process reads at a time
NO_PROBLEM = -1
FACT = np.dtype(
    [
        ("row", np.int64),
        ("problem", np.int8),  # of the image: index into REASONS, or NO_PROBLEM
        ("format", np.int8),  # index into IMAGE_FORMATS
        ("mode", "S8"),  # as Pillow names it
        ("width", np.int32),
        ("height", np.int32),
        ("num_bytes", np.int64),
        ("content", np.uint64),  # hash of the file
        ("look", np.uint64),  # perceptual hash
        ("is_flat", np.bool_),  # almost one colour, without a perceptual hash
        ("caption_problem", np.int8, 2),
        ("caption", np.uint64, 2),  # hash of the clean caption
        ("words", np.int32, 2),
        ("tokens", np.int32, 2),
        ("script", np.int8, 2),  # index into SCRIPTS
    ]
)


class Side(NamedTuple):
    """A side of a source, or a split of a labelled set."""

    name: str
    pairs: Pairs


class Subject(NamedTuple):
    """A source or a labelled set, with the kinds of captions that it has."""

    name: str
    sides: tuple[Side, ...]
    kinds: tuple[CaptionKind, ...]


def open_subject(source: str, config: DataConfig) -> Subject:
    """Open a built-in source, or the source or labelled set of a description.

    Raises:
        UsageError: it is missing, wrong, or not indexed.
    """
    if is_described(source) and is_labelled(Path(source)):
        return _labelled(Path(source), config)
    own = dataclasses.replace(config, sources=(source,), weights=None, dense_fractions=None)
    sides = open_source(source, own, show_progress=True)
    kinds = CAPTION_KINDS
    if is_described(source):
        description = read_source(Path(source))
        kinds = tuple(kind for kind in CAPTION_KINDS if getattr(description, kind))
    return Subject(source_name(source), (Side("train", sides.train), Side("held-out", sides.held_out)), kinds)


def _labelled(path: Path, config: DataConfig) -> Subject:
    described, sides = read_labelled(path), []
    for split in SPLITS:
        location: Location | None = getattr(described, split)
        if location is not None:
            records = open_location(location, str(Path(config.cache_dir) / "shards"), int(config.cache_gb * 1e9))
            # FilePairs reads only the captions from it, and only where there are some.
            like = SourceDescription(shards=("",), short={described.captions or "none": 1.0})
            sides.append(Side(split, FilePairs(records, range(len(records)), like, config)))
    return Subject(described.name, tuple(sides), ("short",) if described.captions else ())


def chosen_rows(pairs: Pairs, num: int) -> np.ndarray:
    """Return all rows, or a random sample of them in ascending order: int64 [N]."""
    if len(pairs) <= num:
        return np.arange(len(pairs))
    return np.sort(Bijection(len(pairs), seed=0, purpose="data audit")(np.arange(num)))


def survey(
    sources: Sequence[str],
    config: DataConfig,
    tokenizer: str | None,
    rows: Sequence[Sequence[np.ndarray]],
    workers: int,
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield facts with the numbers of their source and side, in order.

    Args:
        tokenizer: content of a ``tokenizer.json``; None counts no tokens.
        rows: rows to read, for each side of each source.
        workers: processes; with 1 this one reads.
    """
    tasks = [
        (number, side, row_N[start : start + TASK])
        for number, of_source in enumerate(rows)
        for side, row_N in enumerate(of_source)
        for start in range(0, len(row_N), TASK)
    ]
    if workers == 1:
        reader = _Reader(tuple(sources), config, tokenizer)
        yield from starmap(reader.read, tasks)
        return
    context = get_context("spawn")  # a fork copies locks of threads that it does not have
    with ProcessPoolExecutor(workers, context, _set_up, (tuple(sources), config, tokenizer)) as pool:
        yield from pool.map(_read_here, tasks)


class _Reader:
    """Reads tasks; opens each source when it is needed first."""

    def __init__(self, sources: tuple[str, ...], config: DataConfig, tokenizer: str | None) -> None:
        self._config = config
        self._subject: Callable[[int], Subject] = lru_cache(lambda number: open_subject(sources[number], config))
        self._tokenizer = None if tokenizer is None else Tokenizer.from_str(tokenizer)

    def read(self, number: int, side: int, row_B: np.ndarray) -> tuple[int, int, np.ndarray]:
        subject = self._subject(number)
        pairs = subject.sides[side].pairs
        fact_B = np.zeros(len(row_B), FACT)
        fact_B["row"] = row_B
        self._read_images(pairs, fact_B)
        fact_B["caption_problem"] = NO_PROBLEM
        for kind in subject.kinds:
            self._read_captions(pairs, kind, fact_B)
        return number, side, fact_B

    def _read_images(self, pairs: Pairs, fact_B: np.ndarray) -> None:
        small_BSSC = np.zeros((len(fact_B), phash.SIDE, phash.SIDE, 3), np.uint8)
        for fact, small_SSC in zip(fact_B, small_BSSC, strict=True):
            fact["problem"] = NO_PROBLEM
            try:
                small_SSC[:] = read_image(pairs.picture(int(fact["row"])), fact, self._config.max_pixels)
            except BadSampleError as error:
                fact["problem"] = REASONS.index(error.reason)
        fact_B["look"], fact_B["is_flat"] = phash.hashes(small_BSSC)

    def _read_captions(self, pairs: Pairs, kind: CaptionKind, fact_B: np.ndarray) -> None:
        place, texts = CAPTION_KINDS.index(kind), list[str]()
        for fact in fact_B:
            try:
                row = int(fact["row"])
                caption = pairs.caption(row, kind, caption_choice(row))
            except BadSampleError as error:
                fact["caption_problem"][place] = REASONS.index(error.reason)
                texts.append("")
                continue
            texts.append(caption.text)
            fact["caption"][place] = address.hash64(caption.text)
            fact["words"][place] = len(caption.words)
            fact["script"][place] = SCRIPTS.index(script(caption.text))
        if self._tokenizer is not None:
            encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            fact_B["tokens"][:, place] = [len(encoding.ids) for encoding in encoded]


_here: _Reader | None = None  # of a worker process


def _set_up(sources: tuple[str, ...], config: DataConfig, tokenizer: str | None) -> None:
    global _here
    _here = _Reader(sources, config, tokenizer)


def _read_here(task: tuple[int, int, np.ndarray]) -> tuple[int, int, np.ndarray]:
    assert _here is not None, "the pool sets up its workers"
    return _here.read(*task)


def caption_choice(row: int) -> float:
    """Return the number that chooses among several captions of a row."""
    return float(address.generator(seed=0, purpose="caption in an audit", sample_id=row).random())


def read_image(picture: Picture, fact: np.ndarray, max_pixels: int) -> np.ndarray:
    """Fill in the facts of an image and return it small: uint8 [SIDE, SIDE, 3].

    Raises:
        BadSampleError: it cannot be decoded or is too large; what the header says is filled in.
    """
    if isinstance(picture, np.ndarray):
        fact["format"], fact["mode"] = IMAGE_FORMATS.index("drawn"), b"RGB"
        fact["height"], fact["width"] = picture.shape[:2]
        fact["content"] = _digest(picture.tobytes())
        small = Image.fromarray(picture).resize((phash.SIDE, phash.SIDE), Image.Resampling.BICUBIC)
        return np.asarray(small)
    fact["format"] = IMAGE_FORMATS.index(image_format(picture))
    fact["num_bytes"], fact["content"] = len(picture), _digest(picture)
    small_SSC = square(picture, phash.SIDE, max_pixels)
    with Image.open(io.BytesIO(picture), formats=FORMATS) as image:
        fact["width"], fact["height"], fact["mode"] = image.width, image.height, image.mode.encode()
    return small_SSC


def _digest(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
