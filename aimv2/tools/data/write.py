"""``python -m aimv2 data write``: write pairs of any source as tar shards, with a description of them."""

import dataclasses
import itertools
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import yaml
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.progress import Progress

from aimv2.base.address import Bijection
from aimv2.base.errors import BadSampleError, UsageError
from aimv2.base.files import check_new, replacing
from aimv2.config.arguments import HELP
from aimv2.config.data_config import CHECKED, SCENE_SOURCES, AugmentConfig, DataConfig, is_described, source_name
from aimv2.config.options import defaults_of, options_of, usage
from aimv2.data.pairs import Pairs, Selected
from aimv2.data.prepare import open_source
from aimv2.data.sources.glyphs import LICENCES
from aimv2.data.sources.version import glyphs_of
from aimv2.datasets.description import Fields, SourceDescription, read_source
from aimv2.datasets.file_pairs import FilePairs
from aimv2.request.compose import compose, run_config
from aimv2.tools.data.members import Format, drawn_members, encoded_json, file_members

CHUNK = 2**16  # rows whose order is computed at a time

SideName = Literal["train", "held_out"]
console = Console()


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class WriteOptions:
    """The options of ``data write``."""

    to: str | None = Field(default=None, examples=["FOLDER"], description="a new or empty folder")
    num: PositiveInt | None = Field(
        default=None, examples=[1000], description="pairs to write, a random sample of all (default: all)"
    )
    side: Literal["all", "train", "held_out"] = Field(
        default="all", description="train, held_out or all; the description then holds out the same pairs"
    )
    format: Format | None = Field(
        default=None, examples=["png"], description="png, jpg or webp, for pictures that are drawn"
    )
    pairs_per_shard: PositiveInt = Field(default=4096, description="samples in a shard")


USAGE = usage(
    "python -m aimv2 data write to=FOLDER [key=value ...]",
    "Write image-text pairs as tar shards in WebDataset's format, in random order, with a description that training"
    " reads. Each sample has an image, its short caption as txt, and json with both captions and labels. Files keep"
    " their bytes.",
    WriteOptions,
    "  data.sources=[openmoji]      built-in sources, or the path of one description; other data.* keys as in train",
)


class SourceSide(NamedTuple):
    """The pairs of one side of a source; ``description`` is None if the source is built in."""

    source: str
    side: SideName
    pairs: Pairs
    description: SourceDescription | None


class Request(NamedTuple):
    """What to write: ``num`` samples of all sides together, or all of them."""

    sides: list[SourceSide]
    num: int
    image_format: Format
    pairs_per_shard: int


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
        print(USAGE, end="")
        return 0 if arguments else 2
    values = compose(arguments, defaults={}, values=defaults_of(WriteOptions))
    options = options_of(WriteOptions, values)
    if options.to is None:
        raise UsageError("data write needs to=FOLDER")
    folder = Path(options.to).absolute()
    check_new(folder)  # before opening sources, which may take minutes
    written = write(folder, _request(options, run_config(values).data))
    _print(folder, written)
    return 0


def _request(options: WriteOptions, config: DataConfig) -> Request:
    if config.kind == "files" and len(config.sources) > 1:
        raise UsageError(f"data.sources={list(config.sources)}: write one description at a time, as they differ")
    if config.kind == "files" and options.format:
        raise UsageError(f"format={options.format}: images in files keep their own format; leave format out")
    sides = [side for source in config.sources for side in sides_of(source, config)]
    chosen = [side for side in sides if options.side in (side.side, "all")]
    total = sum(len(side.pairs) for side in chosen)
    if options.num is not None and options.num > total:
        raise UsageError(f"num={options.num} is more than the {total:,} pairs that there are")
    return Request(chosen, options.num or total, options.format or "png", options.pairs_per_shard)


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


def write(folder: Path, request: Request) -> Written:
    """Write shards and their description, completely or not at all.

    Raises:
        UsageError: the folder cannot be written or is not empty, or no pair can be used.
    """
    try:
        with replacing(folder, only_new=True) as partial:
            partial.mkdir(parents=True)
            written = _write_shards(partial, request)
            if not written.samples:
                reasons = ", ".join(f"{reason} {count:,}" for reason, count in written.left_out.items())
                raise UsageError(f"no pair can be written ({reasons})")
            (partial / f"{folder.name}.yaml").write_text(_described(request, written))
            check_new(folder)
    except OSError as error:
        raise UsageError(f"to={str(folder)!r} cannot be written: {error.strerror or error}") from error
    return written


def _write_shards(folder: Path, request: Request) -> Written:
    import webdataset as wds  # here, because it loads torch

    written = Written(Counter(), Counter(), 0)
    pattern = f"{str(folder).replace('%', '%%')}/%06d.tar"
    numbers = itertools.count()
    # Without times, equal pairs make equal files.
    with (
        Progress(console=console, transient=True) as progress,
        wds.ShardWriter(pattern, maxcount=request.pairs_per_shard, verbose=0, mtime=0) as writer,
    ):
        for side, row in progress.track(_order(request), total=request.num, description="writing"):
            try:
                sample = _sample(side, row, request.image_format)
            except BadSampleError as error:
                written.left_out[error.reason] += 1
                continue
            writer.write({"__key__": f"{next(numbers):09d}", **sample})
            written.samples[side.source, side.side] += 1
        num_shards: int = writer.shard
    return written._replace(num_shards=num_shards)


def _order(request: Request) -> Iterator[tuple[SourceSide, int]]:
    """Yield the sides and rows of a random sample in random order, without memory for all of them."""
    ends = np.cumsum([len(side.pairs) for side in request.sides])
    bijection = Bijection(int(ends[-1]), seed=0, purpose="data write")
    for start in range(0, request.num, CHUNK):
        place_B = bijection(np.arange(start, min(start + CHUNK, request.num)))
        side_B = np.searchsorted(ends, place_B, side="right")
        for number, place in zip(side_B.tolist(), place_B.tolist(), strict=True):
            side = request.sides[number]
            yield side, place - int(ends[number]) + len(side.pairs)


def _sample(side: SourceSide, row: int, image_format: Format) -> dict[str, Any]:
    """Return the members of a sample; ``json`` has where it is from besides its captions and labels."""
    if isinstance(side.pairs, FilePairs):
        assert side.description is not None, "only described sources have pairs in files"
        members = file_members(side.pairs, row, side.description)
    else:
        members = drawn_members(side.pairs, row, image_format)
    origin = {"key": side.pairs.keys(np.array([row]))[0], "source": side.source, "side": side.side}
    return members | {"json": encoded_json(origin | members["json"])}


def _described(request: Request, written: Written) -> str:
    """Return a description of the shards, as YAML."""
    last = written.num_shards - 1
    values: dict[str, Any] = {"shards": f"{{{0:06d}..{last:06d}}}.tar" if last else f"{0:06d}.tar"}
    description = request.sides[0].description
    if description is None:
        values |= {"short": "txt", "dense": "json.dense"}
        sources = dict.fromkeys(side.source for side in request.sides)
        licences = dict.fromkeys(LICENCES[glyphs_of(source)] for source in sources)
        transforms: dict[str, Any] = {}
        if request.sides[0].pairs.scene(0) is not None:  # crops and flips would make captions false
            scenes = AugmentConfig().of(DataConfig(sources=SCENE_SOURCES))
            transforms = {"min_scale": scenes.min_scale, "flip_probability": scenes.flip_probability}
        licence = "; ".join(licences)
    else:
        kinds = {"short": description.short, "dense": description.dense}
        values |= {kind: _renamed(fields) for kind, fields in kinds.items() if fields}
        given = dataclasses.asdict(description.transforms)
        transforms = {name: value for name, value in given.items() if value is not None}
        licence = description.licence
    if len({side for _, side in written.samples}) == 2:
        values["held_out"] = {"field": "json.side", "values": ["held_out"]}
    values |= {key: value for key, value in (("transforms", transforms), ("licence", licence)) if value}
    sources_named = ", ".join(dict.fromkeys(side.source for side in request.sides))
    title = f"# {sum(written.samples.values()):,} pairs of {sources_named}, written by python -m aimv2 data write\n"
    return title + str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120))


def _renamed(fields: Fields) -> str | dict[str, float]:
    """Return fields by their names in the shards, with their probabilities."""
    renamed = {f"json.fields.{name}": weight for name, weight in fields.items()}
    return renamed if len(renamed) > 1 else next(iter(renamed))


def _print(folder: Path, written: Written) -> None:
    counts = [f"  {source}, {side.replace('_', '-')}: {count:,}" for (source, side), count in written.samples.items()]
    left_out = [f"  left out, {reason}: {count:,}" for reason, count in written.left_out.items()]
    description = shlex.quote(str(folder / f"{folder.name}.yaml"))  # named by what reports call the source
    lines = [
        f"wrote {sum(written.samples.values()):,} pairs to {folder}; shards: {written.num_shards:,}",
        *sorted(counts),
        *left_out,
        f"\nnext: python -m aimv2 data index {description}",
        f"      python -m aimv2 train data.sources=[{description}]",
    ]
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
