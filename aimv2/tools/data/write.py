"""``python -m aimv2 data write``: write pairs of any source as tar shards, with a description of them."""

import dataclasses
import io
import itertools
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from aimv2.base.address import Bijection
from aimv2.base.errors import BadSampleError, UsageError
from aimv2.base.files import check_new, replacing, to_yaml
from aimv2.base.processes import in_threads
from aimv2.base.typed import as_typed
from aimv2.config.arguments import HELP
from aimv2.config.data_config import (
    SCENE_SOURCES,
    AugmentConfig,
    DataConfig,
    glyphs_of,
    is_described,
    source_name,
)
from aimv2.config.options import defaults_of, options_of
from aimv2.data.pairs import Pairs, Selected
from aimv2.data.prepare import open_source
from aimv2.data.sources.glyphs import LICENCES
from aimv2.datasets.description import SourceDescription, read_source
from aimv2.datasets.file_pairs import FilePairs
from aimv2.request.compose import compose, run_config
from aimv2.tools.data.options import WriteOptions, usage_of

CHUNK = 2**16  # rows whose order is computed at a time
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}

SideName = Literal["train", "held_out"]
console = Console()


class SourceSide(NamedTuple):
    """The pairs of one side of a source; ``description`` is None if the source is built in."""

    source: str
    side: SideName
    pairs: Pairs
    description: SourceDescription | None


class Written(NamedTuple):
    """What was written: samples by source and side, and pairs that were left out, by reason."""

    samples: Counter[tuple[str, SideName]]
    left_out: Counter[str]
    num_shards: int


def write_command(arguments: Sequence[str]) -> int:
    """Write shards and their description, and print what to type next.

    Raises:
        UsageError: the arguments or a source are invalid, the folder is not empty, or no pair can be written.
    """
    if not arguments or HELP & set(arguments):
        print(usage_of("write"), end="")
        return 0 if arguments else 2
    values = compose(arguments, defaults={}, values=defaults_of(WriteOptions))
    options = options_of(WriteOptions, values)
    if options.to is None:
        raise UsageError("data write needs to=FOLDER")
    folder = Path(options.to).absolute()
    check_new(folder)  # before opening sources, which may take minutes
    config = run_config(values).data
    if config.kind == "files" and len(config.sources) > 1:
        raise UsageError(f"data.sources={list(config.sources)}: write one description at a time, as they differ")
    sides = [side for source in config.sources for side in sides_of(source, config)]
    total = sum(len(side.pairs) for side in sides)
    if options.num is not None and options.num > total:
        raise UsageError(f"num={options.num} is more than the {total:,} pairs that there are")
    _print(folder, write(folder, sides, options.num or total, options.pairs_per_shard))
    return 0


def sides_of(source: str, config: DataConfig) -> list[SourceSide]:
    """Return both sides of a source. Of held-out scenes, which have no end, there are ``data.held_out_fraction``."""
    sides = open_source(source, config, show_progress=True)
    held_out = sides.held_out
    if config.has_scenes:
        fraction = config.held_out_fraction
        num_held_out = max(1, round(len(sides.train) * fraction / (1 - fraction)))
        held_out = Selected(held_out, np.arange(min(num_held_out, len(held_out))))
    name, description = source_name(source), read_source(Path(source)) if is_described(source) else None
    return [SourceSide(name, "train", sides.train, description), SourceSide(name, "held_out", held_out, description)]


def write(folder: Path, sides: Sequence[SourceSide], num: int, pairs_per_shard: int) -> Written:
    """Write ``num`` samples of all sides together as shards and their description, completely or not at all.

    Raises:
        UsageError: the folder cannot be written or is not empty, or no pair can be used.
    """
    try:
        with replacing(folder, only_new=True) as partial:
            partial.mkdir(parents=True)
            concurrency = max(side.pairs.concurrency for side in sides)
            members = in_threads(_attempt, _order(sides, num), concurrency)
            written = _write_shards(partial, members, num, pairs_per_shard)
            if not written.samples:
                reasons = ", ".join(f"{reason} {count:,}" for reason, count in written.left_out.items())
                raise UsageError(f"no pair can be written ({reasons})")
            (partial / f"{folder.name}.yaml").write_text(_described(sides, written))
            check_new(folder)
    except OSError as error:
        raise UsageError(f"to={str(folder)!r} cannot be written: {error.strerror or error}") from error
    return written


def _attempt(place: tuple[SourceSide, int]) -> tuple[SourceSide, dict[str, Any] | BadSampleError]:
    """Return the members of a pair, or why it cannot be used."""
    side, row = place
    try:
        return side, _members(side, row)
    except BadSampleError as error:
        return side, error


def _write_shards(
    folder: Path, found: Iterator[tuple[SourceSide, dict[str, Any] | BadSampleError]], num: int, pairs_per_shard: int
) -> Written:
    import webdataset as wds  # here, because it loads torch

    samples: Counter[tuple[str, SideName]] = Counter()
    left_out: Counter[str] = Counter()
    pattern = f"{str(folder).replace('%', '%%')}/%06d.tar"
    numbers = itertools.count()
    # Without times, equal pairs make equal files.
    with (
        Progress(console=console, transient=True) as progress,
        wds.ShardWriter(pattern, maxcount=pairs_per_shard, verbose=0, mtime=0) as writer,
    ):
        for side, members in progress.track(found, total=num, description="writing"):
            if isinstance(members, BadSampleError):
                left_out[members.reason] += 1
                continue
            writer.write({"__key__": f"{next(numbers):09d}", **members})
            samples[side.source, side.side] += 1
        return Written(samples, left_out, writer.shard)


def _order(sides: Sequence[SourceSide], num: int) -> Iterator[tuple[SourceSide, int]]:
    """Yield the sides and rows of a random sample in random order, without memory for all of them."""
    ends = np.cumsum([len(side.pairs) for side in sides])
    bijection = Bijection(int(ends[-1]), seed=0, purpose="data write")
    for start in range(0, num, CHUNK):
        place_B = bijection(np.arange(start, min(start + CHUNK, num)))
        side_B = np.searchsorted(ends, place_B, side="right")
        for number, place in zip(side_B.tolist(), place_B.tolist(), strict=True):
            side = sides[number]
            yield side, place - int(ends[number]) + len(side.pairs)


def _members(side: SourceSide, row: int) -> dict[str, Any]:
    """Return the members of a sample: the image, ``txt``, and ``json`` with the origin and the captions.

    Raises:
        BadSampleError: the image is missing or is no JPEG, PNG or WebP, or the sample has no caption.
    """
    values: dict[str, Any] = {"key": side.pairs.keys(np.array([row]))[0], "source": side.source, "side": side.side}
    picture = side.pairs.picture(row)
    if side.description is None:
        assert isinstance(picture, np.ndarray), "built-in sources draw their pictures"
        content = io.BytesIO()
        Image.fromarray(picture).save(content, format="PNG")
        image, short = {"png": content.getvalue()}, side.pairs.caption(row, "short").text
        values |= {"short": short, "dense": side.pairs.caption(row, "dense").text}
    else:
        assert isinstance(picture, bytes), "pairs in files have the bytes of theirs"
        assert isinstance(side.pairs, FilePairs), "only described sources have pairs in files"
        image, fields = {_extension(picture): picture}, _fields(side.pairs, row, side.description)
        captions = (fields.get(_plain(name)) for name in (*side.description.short, *side.description.dense))
        texts = [text for value in captions for text in (value if isinstance(value, list) else [value])]
        short = next((text for text in texts if isinstance(text, str)), "")
        if not short:
            raise BadSampleError("missing caption", ", ".join((*side.description.short, *side.description.dense)))
        values["fields"] = fields
    # Values of columns that JSON does not know, such as dates, become text.
    return {**image, "txt": short, "json": json.dumps(values, ensure_ascii=False, default=str).encode()}


def _fields(pairs: FilePairs, row: int, description: SourceDescription) -> dict[str, Any]:
    """Return the values of all fields that the description uses.

    Raises:
        UsageError: two of them differ only in dots and underscores.
    """
    rule = description.held_out
    labels = (*description.filters, *([rule.field] if rule and rule.field else []))
    names = dict.fromkeys((*description.short, *description.dense, *labels))
    values = {_plain(name): pairs.field(row, name) for name in names}
    if len(values) < len(names):
        raise UsageError(f"the fields {', '.join(names)} cannot be written together: dots become underscores")
    return {name: value for name, value in values.items() if value is not None}


def _extension(content: bytes) -> str:
    try:
        with Image.open(io.BytesIO(content), formats=list(EXTENSIONS)) as image:
            return EXTENSIONS[str(image.format)]
    except OSError as error:
        raise BadSampleError("undecodable image", "the file is no JPEG, PNG or WebP") from error


def _plain(name: str) -> str:
    """Return the name of a field without dots, as a dot leads into an object of JSON."""
    return name.replace(".", "_")


def _described(sides: Sequence[SourceSide], written: Written) -> str:
    """Return a description of the shards, as YAML."""
    last = written.num_shards - 1
    values: dict[str, Any] = {"shards": f"{{{0:06d}..{last:06d}}}.tar" if last else f"{0:06d}.tar"}
    description = sides[0].description
    transforms: dict[str, Any] = {}
    if description is None:
        values |= {"short": "txt", "dense": "json.dense"}
        licence = "; ".join(dict.fromkeys(LICENCES[glyphs_of(side.source)] for side in sides))
        if sides[0].pairs.scene(0) is not None:  # crops and flips would make captions false
            scenes = AugmentConfig().of(DataConfig(sources=SCENE_SOURCES))
            transforms = {"min_scale": scenes.min_scale, "flip_probability": scenes.flip_probability}
    else:
        kinds = {"short": description.short, "dense": description.dense}
        renamed = {
            kind: {f"json.fields.{_plain(name)}": weight for name, weight in fields.items()}
            for kind, fields in kinds.items()
        }
        values |= {kind: fields for kind, fields in renamed.items() if fields}
        given = dataclasses.asdict(description.transforms)
        transforms = {name: value for name, value in given.items() if value is not None}
        licence = description.licence
    if len({side for _, side in written.samples}) == 2:
        values["held_out"] = {"field": "json.side", "values": ["held_out"]}
    values |= {key: value for key, value in (("transforms", transforms), ("licence", licence)) if value}
    names = ", ".join(dict.fromkeys(side.source for side in sides))
    title = f"# {sum(written.samples.values()):,} pairs of {names}, written by python -m aimv2 data write\n"
    return title + to_yaml(values)


def _print(folder: Path, written: Written) -> None:
    counts = [f"  {source}, {side.replace('_', '-')}: {count:,}" for (source, side), count in written.samples.items()]
    left_out = [f"  left out, {reason}: {count:,}" for reason, count in written.left_out.items()]
    description = shlex.quote(str(folder / f"{folder.name}.yaml"))  # named by what reports call the source
    lines = [
        f"wrote {sum(written.samples.values()):,} pairs to {folder}; shards: {written.num_shards:,}",
        *sorted(counts),
        *left_out,
        f"\nnext: {as_typed('data')} index {description}",
        f"      {as_typed('train')} data.sources=[{description}]",
    ]
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
