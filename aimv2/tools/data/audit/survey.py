"""Facts about samples, read in parallel processes: a row of a table for each, without its image or caption."""

import dataclasses
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from fontTools import unicodedata as scripts
from PIL import Image
from tokenizers import Tokenizer

from aimv2.base import address
from aimv2.base.address import Bijection
from aimv2.base.errors import BadSampleError
from aimv2.config.data_config import DataConfig, is_described, source_name
from aimv2.data.decode import FORMATS, square
from aimv2.data.pairs import CAPTION_KINDS, CaptionKind, Pairs, Picture
from aimv2.data.prepare import open_source
from aimv2.datasets.description import SPLITS, SourceDescription, is_labelled, read_labelled, read_source
from aimv2.datasets.file_pairs import FilePairs
from aimv2.datasets.open import open_location
from aimv2.datasets.processes import in_processes
from aimv2.tools.data.audit.copies import SIDE, look

TASK = 256  # rows that a process reads at a time
OTHER_FORMATS = ("GIF", "AVIF", "BMP", "TIFF")  # that are named, and not decoded
CAPTION_FACTS = {"problem": pl.String, "hash": pl.UInt64, "words": pl.Int32, "tokens": pl.Int32, "script": pl.String}
SCHEMA: dict[str, Any] = {
    "side": pl.Int32,  # number of the side
    "row": pl.Int64,
    "problem": pl.String,  # of the image, null if it is usable
    "format": pl.String,
    "mode": pl.String,  # as Pillow names it
    "width": pl.Int32,
    "height": pl.Int32,
    "bytes": pl.Int64,  # null if the picture is drawn
    "content": pl.UInt64,  # hash of the file, null if there is none
    "look": pl.UInt64,  # perceptual hash, null if the image has almost one colour
    **{f"{kind} {name}": type_ for kind in CAPTION_KINDS for name, type_ in CAPTION_FACTS.items()},
}


class AuditedSide(NamedTuple):
    """A side of a source, or a split of a labelled set, with the kinds of captions that it has."""

    source: str
    side: str
    pairs: Pairs
    kinds: tuple[CaptionKind, ...]

    @property
    def name(self) -> str:
        return f"{self.source} {self.side}"

    def key(self, row: int) -> str:
        return self.pairs.keys(np.array([row]))[0]


def sides_of(source: str, config: DataConfig) -> list[AuditedSide]:
    """Open a built-in source, or the source or labelled set of a description.

    Raises:
        UsageError: it is missing, wrong, or not indexed.
    """
    if is_described(source) and is_labelled(Path(source)):
        return _splits(Path(source), config)
    own = dataclasses.replace(config, sources=(source,), weights=None, dense_fractions=None)
    opened, kinds = open_source(source, own, show_progress=True), CAPTION_KINDS
    if is_described(source):
        description = read_source(Path(source))
        kinds = tuple(kind for kind in CAPTION_KINDS if getattr(description, kind))
    name = source_name(source)
    return [AuditedSide(name, "train", opened.train, kinds), AuditedSide(name, "held-out", opened.held_out, kinds)]


def _splits(path: Path, config: DataConfig) -> list[AuditedSide]:
    described, sides = read_labelled(path), []
    kinds: tuple[CaptionKind, ...] = ("short",) if described.captions else ()
    for split in SPLITS:
        if location := getattr(described, split):
            records = open_location(location, str(Path(config.cache_dir) / "shards"), int(config.cache_gb * 1e9))
            # FilePairs reads only the captions from it, and only where there are some.
            like = SourceDescription(shards=("",), short={described.captions or "none": 1.0})
            sides.append(
                AuditedSide(described.name, split, FilePairs(records, range(len(records)), like, config), kinds)
            )
    return sides


def survey(
    sources: Sequence[str],
    sides: Sequence[AuditedSide],
    config: DataConfig,
    tokenizer: str | None,
    num: int,
    workers: int,
) -> Iterator[pl.DataFrame]:
    """Yield the facts of all sides, in order; their columns are those of ``SCHEMA``.

    Args:
        sides: those of all sources.
        tokenizer: content of a ``tokenizer.json``; None counts no tokens.
        num: samples to read of each side, in a random sample if it has more.
        workers: processes that read.
    """
    tasks = (
        (number, row_N[start : start + TASK])
        for number, side in enumerate(sides)
        for row_N in [chosen_rows(side.pairs, num)]
        for start in range(0, len(row_N), TASK)
    )
    return in_processes(_Surveyor(tuple(sources), config, tokenizer), tasks, workers, "reads samples")


def chosen_rows(pairs: Pairs, num: int) -> np.ndarray:
    """Return all rows, or a random sample of them in ascending order: int64 [N]."""
    if len(pairs) <= num:
        return np.arange(len(pairs))
    return np.sort(Bijection(len(pairs), seed=0, purpose="data audit")(np.arange(num)))


@dataclasses.dataclass(frozen=True)
class _Surveyor:
    """Reads tasks; opens the sources in the process that reads."""

    sources: tuple[str, ...]
    config: DataConfig
    tokenizer: str | None

    @cached_property
    def _sides(self) -> list[AuditedSide]:
        return [side for source in self.sources for side in sides_of(source, self.config)]

    @cached_property
    def _encoder(self) -> Tokenizer:
        assert self.tokenizer is not None, "otherwise no tokens are counted"
        return Tokenizer.from_str(self.tokenizer)

    def __call__(self, task: tuple[int, np.ndarray]) -> pl.DataFrame:
        number, row_B = task
        side = self._sides[number]
        facts = [{"side": number, "row": row} | self._image(side.pairs, row) for row in row_B.tolist()]
        for kind in side.kinds:
            self._add_captions(side.pairs, kind, facts)
        return pl.DataFrame(facts, SCHEMA)

    def _image(self, pairs: Pairs, row: int) -> dict[str, Any]:
        try:
            picture = pairs.picture(row)
        except BadSampleError as error:
            return {"problem": error.reason}
        return image_facts(picture, self.config.max_pixels)

    def _add_captions(self, pairs: Pairs, kind: CaptionKind, facts: list[dict[str, Any]]) -> None:
        texts = []
        for fact in facts:
            try:
                caption = pairs.caption(fact["row"], kind, caption_choice(fact["row"]))
            except BadSampleError as error:
                fact[f"{kind} problem"] = error.reason
                texts.append("")
                continue
            text = caption.text
            texts.append(text)
            own = {"hash": address.hash64(text), "words": len(caption.words), "script": script(text)}
            fact |= {f"{kind} {name}": value for name, value in own.items()}
        if self.tokenizer is not None:
            encodings = self._encoder.encode_batch_fast(texts, add_special_tokens=False)
            for fact, encoding in zip(facts, encodings, strict=True):
                fact[f"{kind} tokens"] = len(encoding.ids)


def caption_choice(row: int) -> float:
    """Return the number that chooses among several captions of a row."""
    return float(address.generator(seed=0, purpose="caption in an audit", sample_id=row).random())


def image_facts(picture: Picture, max_pixels: int) -> dict[str, Any]:
    """Return the facts of an image; of one that cannot be used, what its header says, and its problem."""
    if isinstance(picture, np.ndarray):
        height, width = picture.shape[:2]
        facts = {"format": "drawn", "mode": "RGB", "width": width, "height": height, "look": look(picture)}
        return facts | {"content": _digest(picture.tobytes())}
    found: dict[str, Any] = {"format": "other", "bytes": len(picture), "content": _digest(picture)}
    try:
        with Image.open(io.BytesIO(picture), formats=(*FORMATS, *OTHER_FORMATS)) as image:
            found |= {"format": image.format, "mode": image.mode, "width": image.width, "height": image.height}
    except Exception:  # hostile bytes can cause every kind
        if picture[:64].lstrip().lower().startswith((b"<html", b"<!doctype html")):
            found["format"] = "HTML"
    try:
        found["look"] = look(square(picture, SIDE, max_pixels))
    except BadSampleError as error:
        found["problem"] = error.reason
    return found


def _digest(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def script(text: str) -> str:
    """Return the script of most letters of a text, as Unicode names it; ``none`` if there are no letters."""
    count = Counter(_script_of(character) for character in text if character.isalpha())
    return max(count, key=lambda name: count[name], default="none")


@lru_cache(maxsize=2**16)
def _script_of(character: str) -> str:
    return str(scripts.script_name(scripts.script(character)))
