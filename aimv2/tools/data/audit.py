"""An audit of sources and labelled sets: unusable samples, copies, and leakage between sides.

Samples are read in parallel processes, a row of a table for each (``SCHEMA``), without its image or caption. The rows
of all sides are one table, so that each image is compared with each. Letters: N facts, B rows of a task.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import Progress

from aimv2.base.address import Bijection
from aimv2.base.errors import BadSampleError, UsageError
from aimv2.base.processes import in_processes, in_threads
from aimv2.config.data_config import DataConfig, is_described, kind_of, source_name
from aimv2.data.decode import square
from aimv2.data.pairs import CAPTION_KINDS, CaptionKind, Pairs
from aimv2.data.prepare import open_source
from aimv2.datasets.description import SPLITS, SourceDescription, is_labelled, read_labelled
from aimv2.datasets.file_pairs import FilePairs
from aimv2.datasets.open import open_location
from aimv2.datasets.plugin import caption_kinds
from aimv2.tools.data import copies

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
    """A side of a source, or a split of a labelled set, with the kinds of captions that it has.

    Attributes:
        given: what the source is in the arguments; names may be equal.
    """

    source: str
    side: str
    pairs: Pairs
    kinds: tuple[CaptionKind, ...]
    given: str

    @property
    def name(self) -> str:
        return f"{self.source} {self.side}"

    def key(self, row: int) -> str:
        return self.pairs.keys(np.array([row]))[0]


def audit(sources: Sequence[str], config: DataConfig, num: int, workers: int, console: Console) -> dict[str, Any]:
    """Read sources and labelled sets, at most ``num`` samples of each side, and return what is found.

    Raises:
        UsageError: a source cannot be opened.
        RunFailedError: the data is broken, or a process was killed.
    """
    surveyor = _Surveyor(tuple(sources), config)
    sides = surveyor.sides
    tasks = [
        (number, row_N[start : start + TASK])
        for number, side in enumerate(sides)
        for row_N in [chosen_rows(side.pairs, num)]
        for start in range(0, len(row_N), TASK)
    ]
    tables = [pl.DataFrame(schema=SCHEMA)]
    with Progress(console=console, transient=True) as progress:
        found = in_processes(surveyor, tasks, workers, "reads samples")
        tables += progress.track(found, total=len(tasks), description="auditing")
    fact_N = pl.concat(tables)
    near = near_looks(fact_N)
    values = {
        "sources": [_source(name, sides, fact_N, near) for name in dict.fromkeys(side.source for side in sides)],
        "leakage": leaks(sides, fact_N, near),
    }
    return {"summary": summary(values), **values, "leaked": leaked(sides, fact_N, near)}


def check_names(sources: Sequence[str]) -> None:
    """Raise a UsageError for a source that is unknown or given twice."""
    for source in sources:
        try:
            kind_of(source)
        except ValueError as error:
            raise UsageError(str(error)) from error
    if len(set(sources)) < len(sources):
        raise UsageError(f"{' '.join(sources)}: each source is needed once")


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
        kinds = caption_kinds(source)
    name = source_name(source)
    return [
        AuditedSide(name, side, pairs, kinds, source)
        for side, pairs in (("train", opened.train), ("held-out", opened.held_out))
    ]


def _splits(path: Path, config: DataConfig) -> list[AuditedSide]:
    described, sides = read_labelled(path), []
    without_captions = SourceDescription(shards=("",), short={"none": 1.0})
    for split in SPLITS:
        if location := getattr(described, split):
            records = open_location(location, str(Path(config.cache_dir) / "shards"), int(config.cache_gb * 1e9))
            pairs = FilePairs(records, range(len(records)), without_captions, config)
            sides.append(AuditedSide(described.name, split, pairs, (), str(path)))
    return sides


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

    @cached_property
    def sides(self) -> list[AuditedSide]:
        return [side for source in self.sources for side in sides_of(source, self.config)]

    def __reduce__(self) -> tuple[type["_Surveyor"], tuple[tuple[str, ...], DataConfig]]:
        return type(self), (self.sources, self.config)

    def __call__(self, task: tuple[int, np.ndarray]) -> pl.DataFrame:
        number, row_B = task
        side = self.sides[number]
        found = in_threads(partial(self._facts, number, side), row_B.tolist(), side.pairs.concurrency)
        return pl.DataFrame(list(found), SCHEMA)

    def _facts(self, number: int, side: AuditedSide, row: int) -> dict[str, Any]:
        return {"side": number, "row": row, **facts_of(side, row, self.config.max_pixels)}


def facts_of(side: AuditedSide, row: int, max_pixels: int) -> dict[str, Any]:
    """Return the hashes of a sample's image, and its problem if the image or a caption cannot be used."""
    facts, problems = dict[str, Any](), []
    try:
        picture = side.pairs.picture(row)
        content = picture.tobytes() if isinstance(picture, np.ndarray) else picture
        facts["content"] = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
        shown = picture if isinstance(picture, np.ndarray) else square(picture, copies.SIDE, max_pixels)
        facts["look"], facts["mirrored"] = copies.look(shown), copies.look(shown[:, ::-1])
    except BadSampleError as error:
        problems.append(error.reason)
    for kind in side.kinds:
        try:
            side.pairs.caption(row, kind)
        except BadSampleError as error:
            problems.append(error.reason)
    return facts | {"problem": ", ".join(dict.fromkeys(problems)) or None}


def _source(name: str, sides: Sequence[AuditedSide], fact_N: pl.DataFrame, near: pl.DataFrame) -> dict[str, Any]:
    """Return what is found in a source."""
    own = [number for number, side in enumerate(sides) if side.source == name]
    own_N = fact_N.filter(pl.col("side").is_in(own))
    read, bad_N = Counter(own_N["side"].to_list()), own_N.drop_nulls("problem")
    return {
        "name": name,
        "sides": [
            {"side": sides[number].side, "pairs": len(sides[number].pairs), "read": read[number]} for number in own
        ],
        "images": images(own_N, near),
        "unusable": {
            "num": len(bad_N),
            "reasons": dict(Counter(bad_N["problem"].to_list()).most_common()),
            "first": [
                {"key": sides[side].key(row), "side": sides[side].side, "reason": problem}
                for side, row, problem in bad_N.head(NUM_NAMED).select("side", "row", "problem").rows()
            ],
        },
    }


def images(fact_N: pl.DataFrame, near: pl.DataFrame) -> dict[str, int]:
    """Return how many images of a source are copies or have almost one colour."""
    content_N = fact_N["content"].drop_nulls()
    num_contents = fact_N.unique(["look", "content"]).drop_nulls("look").group_by("look").len("num")
    num_near = near.join(num_contents, left_on="other", right_on="look").group_by("look").agg(pl.col("num").sum())
    return {
        "exact copies": len(content_N) - content_N.n_unique(),
        "with a near copy": fact_N.join(num_near.filter(pl.col("num") > 1), on="look", how="semi").height,
        "one colour": fact_N.filter(pl.col("problem").is_null())["look"].null_count(),
    }


def near_looks(fact_N: pl.DataFrame) -> pl.DataFrame:
    """Return each perceptual hash with those near it, itself included: the columns ``look`` and ``other``."""
    look_N = pl.concat([fact_N["look"], fact_N["mirrored"]]).drop_nulls().unique().sort().to_numpy()
    pair_K2 = copies.near_pairs(look_N)
    both_K2 = np.concatenate([pair_K2, pair_K2[:, ::-1], np.arange(len(look_N))[:, None].repeat(2, axis=1)])
    return pl.DataFrame({"look": look_N[both_K2[:, 0]], "other": look_N[both_K2[:, 1]]})


def leaks(sides: Sequence[AuditedSide], fact_N: pl.DataFrame, near: pl.DataFrame) -> list[dict[str, Any]]:
    """Compare every side with every other one; the sides that training shows come first, as ``within``.

    Returns:
        Of each pair: the images of ``of`` that were compared (``num``); of these, how many have a file with the same
        bytes in ``within`` (``exact``), and a near copy, mirrored or not, or the same bytes (``near``); and the keys of
        the first of these, each with that of its copy (``first``).
    """
    ordered = sorted(range(len(sides)), key=lambda number: sides[number].side != "train")
    tables = [_images_of(fact_N, number) for number in range(len(sides))]
    found = []
    for within, of in combinations(ordered, 2):
        exact, pairs = _copied(tables[of], tables[within], near)
        keys = [[sides[of].key(one), sides[within].key(other)] for one, other in pairs.head(NUM_NAMED).rows()]
        counts = {"num": len(tables[of]), "exact": exact, "near": len(pairs)}
        found.append({"of": sides[of].name, "within": sides[within].name, **counts, "first": keys})
    return found


def leaked(sides: Sequence[AuditedSide], fact_N: pl.DataFrame, near: pl.DataFrame) -> dict[str, list[str]]:
    """Return the keys of the training pairs whose images are also in a side that training may not show, by argument.

    Keys with line breaks, which a file of keys cannot hold, are left out.
    """
    tables = [_images_of(fact_N, number) for number in range(len(sides))]
    hidden = [table for table, side in zip(tables, sides, strict=True) if side.side != "train"]
    keys: dict[str, list[str]] = {}
    for table, side in zip(tables, sides, strict=True):
        if side.side == "train":
            rows = {row for other in hidden for row in _copied(table, other, near)[1]["row"].to_list()}
            found = map(side.key, sorted(rows))
            keys[side.given] = [key for key in found if key.splitlines() == [key]]
    return keys


def _images_of(fact_N: pl.DataFrame, number: int) -> pl.DataFrame:
    return fact_N.filter(pl.col("side") == number, pl.col("content").is_not_null())


def _copied(one_N: pl.DataFrame, other_N: pl.DataFrame, near: pl.DataFrame) -> tuple[int, pl.DataFrame]:
    """Return how many images of a side have the same bytes in another one, and the rows of all that have a copy there.

    The rows are each with that of a copy, in the columns ``row`` and ``row_right``.
    """
    exact = one_N.join(other_N.unique("content", keep="first"), on="content")
    there = near.join(other_N.unique("look", keep="first"), left_on="other", right_on="look").unique("look")
    alike = [one_N.join(there, left_on=column, right_on="look") for column in ("look", "mirrored")]
    pairs = pl.concat([table.select("row", "row_right") for table in (exact, *alike)])
    return len(exact), pairs.unique("row", keep="first", maintain_order=True).sort("row")


def summary(values: Mapping[str, Any]) -> list[str]:
    """Return the main findings, a line each."""
    lines = []
    for source in values["sources"]:
        found, unusable = source["images"], source["unusable"]
        first = ", ".join(f"{bad['key']} ({bad['reason']})" for bad in unusable["first"][:3])
        num_read, num_pairs = (sum(side[what] for side in source["sides"]) for what in ("read", "pairs"))
        lines.append(
            f"{source['name']}: read {num_read:,} of {num_pairs:,} pairs"
            f"{', a random sample, which underestimates copies' if num_read < num_pairs else ''};"
            f" unusable: {unusable['num']:,}{f', such as {first}' if first else ''};"
            f" exact copies: {found['exact copies']:,}, images with a near copy: {found['with a near copy']:,},"
            f" of one colour: {found['one colour']:,}"
        )
    for leak in values["leakage"]:
        if leak["near"]:
            one, other = leak["first"][0]
            lines.append(
                f"{leak['of']}: {leak['near']:,} of {leak['num']:,} images are also in {leak['within']},"
                f" {leak['exact']:,} with the same bytes, such as {one} ({other})"
            )
    return lines
