"""An audit of described data: unusable samples, copies, and leakage between sides.

Samples are read in parallel processes, a row of a table for each (``SCHEMA``), without its image or caption. The rows
of all sides are one table, so that each image is compared with each. Letters: N facts, B rows of a task.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from itertools import combinations
from typing import Any, NamedTuple

import imagehash
import numpy as np
import polars as pl
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from aimv2.base.address import Bijection
from aimv2.base.errors import BadSampleError
from aimv2.base.processes import in_processes, in_threads
from aimv2.config.data_config import DataConfig, source_name
from aimv2.data.decode import square
from aimv2.data.pairs import CaptionKind, Pairs
from aimv2.datasets.description import LabelledDescription, SourceDescription, read_description
from aimv2.datasets.file_pairs import FilePairs
from aimv2.datasets.open import copies_of, open_location, open_source

THRESHOLD = 6  # bits; a test measures on photographs what it finds and what it mistakes
SIDE = 32  # of the picture that is hashed
FLAT = 2.0  # standard deviation of grey values below which a picture shows nothing to compare
NUM_BITS = 64
CHUNK = 512  # hashes that are compared with all others of their group at a time
TASK = 256  # rows that a process reads at a time
NUM_NAMED = 20  # unusable samples, and leaked ones of a pair of sides, that are named
SCHEMA = {
    "side": pl.Int32,  # number of the side
    "row": pl.Int64,
    "problem": pl.String,  # null if the sample is usable
    "content": pl.UInt64,  # hash of the image file, null if there is none
    "look": pl.UInt64,  # perceptual hash, null if the image has almost one colour
    "mirrored": pl.UInt64,  # that of the mirrored image: training mirrors images
}


class AuditedSide(NamedTuple):
    """A side of a source, or a split of a labelled set."""

    source: str  # as in the arguments; names may be equal
    side: str
    pairs: Pairs
    kinds: tuple[CaptionKind, ...]
    title: str = ""  # of a labelled set

    @property
    def name(self) -> str:
        return f"{self.title or source_name(self.source)} {self.side}"

    def key(self, row: int) -> str:
        return self.pairs.keys(np.array([row]))[0]


def audit(sources: Sequence[str], config: DataConfig, num: int, workers: int, console: Console) -> dict[str, Any]:
    """Read sources and labelled sets, at most ``num`` samples of each side, and return the findings."""
    opened_sides.cache_clear()  # they may have been indexed anew
    sides = opened_sides(tuple(sources), config)
    tasks = [
        (number, row_N[start : start + TASK])
        for number, side in enumerate(sides)
        for row_N in [chosen_rows(side.pairs, num)]
        for start in range(0, len(row_N), TASK)
    ]
    with Progress(console=console, transient=True) as progress:
        tables = in_processes(partial(_read, tuple(sources), config), tasks, workers, "reads samples")
        fact_N = pl.concat(
            [pl.DataFrame(schema=SCHEMA), *progress.track(tables, total=len(tasks), description="auditing")]
        )
    near = near_looks(fact_N)
    values = {
        "sources": [_source(name, sides, fact_N) for name in dict.fromkeys(side.source for side in sides)],
        "leakage": leaks(sides, fact_N, near),
    }
    return {"summary": summary(values), **values, "leaked": leaked(sides, fact_N, near)}


@lru_cache(maxsize=1)  # each process opens the sources once
def opened_sides(sources: tuple[str, ...], config: DataConfig) -> list[AuditedSide]:
    sides = []
    for source in sources:
        described = read_description(source)
        if isinstance(described, LabelledDescription):
            without_captions = SourceDescription(shards=("",), short={"none": 1.0})
            for split, location in described.splits():
                records = open_location(location, *copies_of(config))
                pairs = FilePairs(records, range(len(records)), without_captions, config)
                sides.append(AuditedSide(source, split, pairs, (), described.name))
        else:
            opened = open_source(source, config)
            both = (("train", opened.train), ("held-out", opened.held_out))
            sides += [AuditedSide(source, side, pairs, pairs.kinds) for side, pairs in both]
    return sides


def chosen_rows(pairs: Pairs, num: int) -> np.ndarray:
    """Return all rows, or a random sample of them in ascending order: int64 [N]."""
    if len(pairs) <= num:
        return np.arange(len(pairs))
    return np.sort(Bijection(len(pairs), seed=0, purpose="data audit")(np.arange(num)))


def _read(sources: tuple[str, ...], config: DataConfig, task: tuple[int, np.ndarray]) -> pl.DataFrame:
    number, row_B = task
    side = opened_sides(sources, config)[number]

    def facts(row: int) -> dict[str, Any]:
        return {"side": number, "row": row, **facts_of(side, row, config.max_pixels)}

    return pl.DataFrame(list(in_threads(facts, row_B.tolist(), side.pairs.concurrency)), SCHEMA)


def facts_of(side: AuditedSide, row: int, max_pixels: int) -> dict[str, Any]:
    """Return the hashes of a sample's image, and its problem if the image or a caption cannot be used."""
    facts, problems = dict[str, Any](), []
    try:
        content = side.pairs.picture(row)
        assert isinstance(content, bytes), "pairs in files have the bytes of theirs"
        facts["content"] = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
        shown = square(content, SIDE, max_pixels)
        facts["look"], facts["mirrored"] = look(shown), look(shown[:, ::-1])
    except BadSampleError as error:
        problems.append(error.reason)
    for kind in side.kinds:
        try:
            side.pairs.caption(row, kind)
        except BadSampleError as error:
            problems.append(error.reason)
    return facts | {"problem": ", ".join(dict.fromkeys(problems)) or None}


def _source(source: str, sides: Sequence[AuditedSide], fact_N: pl.DataFrame) -> dict[str, Any]:
    numbers = [number for number, side in enumerate(sides) if side.source == source]
    of_source_N = fact_N.filter(pl.col("side").is_in(numbers))
    bad_N, content_N = of_source_N.drop_nulls("problem"), of_source_N["content"].drop_nulls()
    return {
        "name": source_name(source),
        "pairs": sum(len(sides[number].pairs) for number in numbers),
        "read": len(of_source_N),
        "exact copies": len(content_N) - content_N.n_unique(),
        "unusable": dict(Counter(bad_N["problem"].to_list()).most_common()),
        "first": [
            {"key": sides[side].key(row), "side": sides[side].side, "reason": problem}
            for side, row, problem in bad_N.head(NUM_NAMED).select("side", "row", "problem").rows()
        ],
    }


def near_looks(fact_N: pl.DataFrame) -> pl.DataFrame:
    """Return each perceptual hash with those near it, itself included: the columns ``look`` and ``other``."""
    look_N = pl.concat([fact_N["look"], fact_N["mirrored"]]).drop_nulls().unique().sort().to_numpy()
    pair_K2 = near_pairs(look_N)
    both_K2 = np.concatenate([pair_K2, pair_K2[:, ::-1], np.arange(len(look_N))[:, None].repeat(2, axis=1)])
    return pl.DataFrame({"look": look_N[both_K2[:, 0]], "other": look_N[both_K2[:, 1]]})


def leaks(sides: Sequence[AuditedSide], fact_N: pl.DataFrame, near: pl.DataFrame) -> list[dict[str, Any]]:
    """Compare every side with every other one; the sides that training shows come first, as ``within``.

    Of the images of ``of`` that were compared (``num``), ``exact`` have a file with the same bytes in ``within``, and
    ``near`` that or a near copy, mirrored or not; ``first`` has the keys of some, each with that of its copy.
    """
    ordered = sorted(enumerate(sides), key=lambda numbered: numbered[1].side != "train")
    findings = []
    for (within_number, within), (of_number, of) in combinations(ordered, 2):
        images_N = _images_of(fact_N, of_number)
        exact, pairs = _copied(images_N, _images_of(fact_N, within_number), near)
        keys = [[of.key(row), within.key(copy)] for row, copy in pairs.head(NUM_NAMED).rows()]
        counts = {"num": len(images_N), "exact": exact, "near": len(pairs)}
        findings.append({"of": of.name, "within": within.name, **counts, "first": keys})
    return findings


def leaked(sides: Sequence[AuditedSide], fact_N: pl.DataFrame, near: pl.DataFrame) -> dict[str, list[str]]:
    """Return the keys of the training pairs whose images are also in a side that training may not show, by source.

    Keys with line breaks, which a file of keys cannot hold, are left out.
    """
    hidden_N = _images_of(fact_N, *(number for number, side in enumerate(sides) if side.side != "train"))
    keys: dict[str, list[str]] = {}
    for number, side in enumerate(sides):
        if side.side == "train":
            rows = _copied(_images_of(fact_N, number), hidden_N, near)[1]["row"].to_list()
            keys[side.source] = [key for row in rows if (key := side.key(row)).splitlines() == [key]]
    return keys


def _images_of(fact_N: pl.DataFrame, *sides: int) -> pl.DataFrame:
    return fact_N.filter(pl.col("side").is_in(sides), pl.col("content").is_not_null())


def _copied(one_N: pl.DataFrame, other_N: pl.DataFrame, near: pl.DataFrame) -> tuple[int, pl.DataFrame]:
    """Return how many images have the same bytes in another side, and the rows of all that have a copy there.

    The rows are each with that of a copy, in the columns ``row`` and ``row_right``.
    """
    exact = one_N.join(other_N.unique("content", keep="first"), on="content")
    there = near.join(other_N.unique("look", keep="first"), left_on="other", right_on="look").unique("look")
    alike = [one_N.join(there, left_on=column, right_on="look") for column in ("look", "mirrored")]
    pairs = pl.concat([table.select("row", "row_right") for table in (exact, *alike)])
    return len(exact), pairs.unique("row", keep="first", maintain_order=True).sort("row")


def summary(values: Mapping[str, Any]) -> list[str]:
    lines = []
    for source in values["sources"]:
        first = ", ".join(f"{bad['key']} ({bad['reason']})" for bad in source["first"][:3])
        sampled = ", a random sample, which underestimates copies" if source["read"] < source["pairs"] else ""
        lines.append(
            f"{source['name']}: read {source['read']:,} of {source['pairs']:,} pairs{sampled};"
            f" unusable: {sum(source['unusable'].values()):,}{f', such as {first}' if first else ''};"
            f" exact copies: {source['exact copies']:,}"
        )
    for leak in values["leakage"]:
        if leak["near"]:
            key, copy = leak["first"][0]
            lines.append(
                f"{leak['of']}: {leak['near']:,} of {leak['num']:,} images are also in {leak['within']},"
                f" {leak['exact']:,} with the same bytes, such as {key} ({copy})"
            )
    return lines


def look(picture: np.ndarray) -> int | None:
    """Return the perceptual hash of a picture, uint8 [S, S, 3]; None if it has almost one colour only."""
    small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    if np.asarray(small.convert("L")).std() < FLAT:
        return None
    return int(str(imagehash.phash(small)), 16)


def near_pairs(hash_N: np.ndarray, max_distance: int = THRESHOLD) -> np.ndarray:
    """Return all pairs of different hashes that differ in few bits, without comparing all: int64 [K, 2], lower first.

    Of two hashes that differ in ``max_distance`` bits or fewer, at least one of ``max_distance + 1`` bands is equal, so
    that only those of a band's group are compared (multi-index hashing, arXiv 1307.2982). ``hash_N`` has each once.
    """
    places = [np.empty(0, np.int64)]
    for bits in np.array_split(np.arange(NUM_BITS, dtype=np.uint64), max_distance + 1):
        band_N = (hash_N >> bits[0]) & np.uint64((1 << len(bits)) - 1)
        order_N = np.argsort(band_N, kind="stable")
        for group in np.split(order_N, np.flatnonzero(np.diff(band_N[order_N])) + 1):
            for start in range(0, len(group), CHUNK):
                chunk = group[start : start + CHUNK]
                first_K, second_K = np.nonzero(np.bitwise_count(hash_N[chunk, None] ^ hash_N[group]) <= max_distance)
                first_K, second_K = chunk[first_K], group[second_K]
                places.append((first_K * len(hash_N) + second_K)[first_K < second_K])
    place_K = np.unique(np.concatenate(places))
    return np.stack(np.divmod(place_K, max(len(hash_N), 1)), axis=1)
