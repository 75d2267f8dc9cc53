"""``python -m aimv2 data show`` and ``data write``: samples as training sees them, and pairs as tar shards.

Letters: G patches a side, P pixels a side, T tokens.
"""

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
from aimv2.base.files import check_new, replacing, to_yaml, writable_folder
from aimv2.base.processes import in_threads
from aimv2.config.arguments import as_typed, defaults_of, options_of
from aimv2.config.data_config import SCENE_SOURCES, AugmentConfig, DataConfig, glyphs_of, is_described, source_name
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import CAPTION_KINDS, CaptionKind, Pairs, Selected
from aimv2.data.prepare import open_source
from aimv2.data.sources.glyphs import LICENCES
from aimv2.data.tokenizer import CaptionTokenizer, clean
from aimv2.datasets.description import SourceDescription, read_source
from aimv2.datasets.file_pairs import FilePairs
from aimv2.definitions.objectives import objective
from aimv2.request.compose import compose, run_config, with_file
from aimv2.request.resolve import with_attention
from aimv2.tools.options import ShowOptions, WriteOptions
from aimv2.tools.sheet import Shown, Word, sheet

CHUNK = 2**16  # rows whose order is computed at a time
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}

SideName = Literal["train", "held_out"]
console = Console()


class SourceSide(NamedTuple):
    """The pairs of one side of a source; a built-in source has no description."""

    source: str
    side: SideName
    pairs: Pairs
    description: SourceDescription | None


class Written(NamedTuple):
    samples: Counter[tuple[str, SideName]]  # by source and side
    left_out: Counter[str]  # pairs, by reason
    num_shards: int


def write_command(arguments: Sequence[str]) -> int:
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
    name, description = source_name(source), read_source(source) if is_described(source) else None
    return [SourceSide(name, "train", sides.train, description), SourceSide(name, "held_out", held_out, description)]


def write(folder: Path, sides: Sequence[SourceSide], num: int, pairs_per_shard: int) -> Written:
    """Write ``num`` samples of all sides together as shards and their description, completely or not at all."""
    try:
        with replacing(folder, only_new=True) as partial:
            partial.mkdir(parents=True)
            written = _write_shards(partial, sides, num, pairs_per_shard)
            if not written.samples:
                reasons = ", ".join(f"{reason} {count:,}" for reason, count in written.left_out.items())
                raise UsageError(f"no pair can be written ({reasons})")
            (partial / f"{folder.name}.yaml").write_text(_described(sides, written))
            check_new(folder)
    except OSError as error:
        raise UsageError(f"to={str(folder)!r} cannot be written: {error.strerror or error}") from error
    return written


def _write_shards(folder: Path, sides: Sequence[SourceSide], num: int, pairs_per_shard: int) -> Written:
    import webdataset as wds  # here, because it loads torch

    def attempt(place: tuple[SourceSide, int]) -> tuple[SourceSide, dict[str, Any] | BadSampleError]:
        try:
            return place[0], _members(*place)
        except BadSampleError as error:
            return place[0], error

    pairs = in_threads(attempt, _order(sides, num), max(side.pairs.concurrency for side in sides))
    samples, left_out = Counter[tuple[str, SideName]](), Counter[str]()
    pattern = f"{str(folder).replace('%', '%%')}/%06d.tar"
    numbers = itertools.count()
    # Without times, equal pairs make equal files.
    with (
        Progress(console=console, transient=True) as progress,
        wds.ShardWriter(pattern, maxcount=pairs_per_shard, verbose=0, mtime=0) as writer,
    ):
        for side, members in progress.track(pairs, total=num, description="writing"):
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
    """Return the members of a sample: the image, ``txt``, and ``json`` with the origin and the captions."""
    values: dict[str, Any] = {"key": side.pairs.keys(np.array([row]))[0], "source": side.source, "side": side.side}
    picture = side.pairs.picture(row)
    if side.description is None:
        assert isinstance(picture, np.ndarray), "built-in sources draw their pictures"
        content = io.BytesIO()
        Image.fromarray(picture).save(content, format="PNG")
        image = {"png": content.getvalue()}
        captions = {kind: [side.pairs.caption(row, kind).text] for kind in CAPTION_KINDS}
    else:
        assert isinstance(picture, bytes), "pairs in files have the bytes of theirs"
        assert isinstance(side.pairs, FilePairs), "only described sources have pairs in files"
        image, captions = {_extension(picture): picture}, dict[CaptionKind, list[str]]()
        for kind in side.pairs.kinds:
            fields = (side.pairs.field(row, name) for name in getattr(side.description, kind))
            values_of = (value if isinstance(value, list) else [value] for value in fields)
            captions[kind] = [text for texts in values_of for text in texts if isinstance(text, str)]
    first = next((text for texts in captions.values() for text in texts), "")
    if not first:
        raise BadSampleError("missing caption", "all fields")
    values |= {kind: texts[0] if len(texts) == 1 else texts for kind, texts in captions.items()}
    return {**image, "txt": first, "json": json.dumps(values, ensure_ascii=False).encode()}


def _extension(content: bytes) -> str:
    try:
        with Image.open(io.BytesIO(content), formats=list(EXTENSIONS)) as image:
            return EXTENSIONS[str(image.format)]
    except OSError as error:
        raise BadSampleError("undecodable image", "the file is no JPEG, PNG or WebP") from error


def _described(sides: Sequence[SourceSide], written: Written) -> str:
    last, description = written.num_shards - 1, sides[0].description
    values: dict[str, Any] = {"shards": f"{{{0:06d}..{last:06d}}}.tar" if last else f"{0:06d}.tar"}
    if description is None:
        values |= {"short": "txt", "dense": "json.dense"}
        licence, transforms = "; ".join(dict.fromkeys(LICENCES[glyphs_of(side.source)] for side in sides)), {}
        if sides[0].pairs.scene(0) is not None:  # crops and flips would make captions false
            scenes = AugmentConfig().of(DataConfig(sources=SCENE_SOURCES))
            assert scenes.min_scale is not None, "AugmentConfig.of() sets it"
            assert scenes.flip_probability is not None, "AugmentConfig.of() sets it"
            transforms = {"min_scale": scenes.min_scale, "flip_probability": scenes.flip_probability}
    else:
        values |= {kind: f"json.{kind}" for kind in description.kinds}
        licence, transforms = description.licence, description.transforms.given
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


def show_command(arguments: Sequence[str]) -> int:
    values = compose(with_file(arguments), defaults={}, values=defaults_of(ShowOptions))
    options = options_of(ShowOptions, values)
    to, step, num = Path(options.to), options.step, options.num
    if to.suffix != ".png":
        raise UsageError(f"to={str(to)!r} must end in .png")
    config = with_attention(run_config(values))
    objective(config.objective.name).check(config)
    if config.native.areas:
        raise UsageError("data show draws squares of one size; type native.areas=[]")
    writable_folder(str(to.absolute().parent), "the folder of to")
    num_bad, rows = shown(config, step, num)
    bad = f", bad samples replaced: {num_bad:,}" if num_bad else ""
    title = f"scale {config.scale}, objective {config.objective.name}, seed {config.seed}, from step {step:,} on{bad}"
    picture = sheet(rows, title, ["image", "pixel targets"][: len(rows[0].pictures)])
    with replacing(to) as partial:
        partial.write_bytes(picture)
    print(f"wrote {to}: {num} samples from step {step} on")
    return 0


def shown(config: RunConfig, step: int, num: int) -> tuple[int, list[Shown]]:
    """Return the number of bad samples that were replaced, and what to draw of the samples from a step on."""
    from aimv2.data.batches.training import TrainBatches  # here, because it loads torch
    from aimv2.data.prepare import prepare
    from aimv2.data.reading import Reader
    from aimv2.data.transforms import unnormalise
    from aimv2.model.positions import reading_order

    data = prepare(config.data, config.model.vocab_size, show_progress=True)
    batches, reader = TrainBatches(config, data.train, data.tokenizer), Reader(config, data.train)
    size, grid = config.budget.batch_size, config.model.grid
    # The prefix matters to the encoder's attention, or to the pixel loss.
    has_prefix = config.model.encoder.attention == "prefix" or "pixels" in objective(config.objective.name).reports
    order = list(reading_order(config.model.patch_order, grid) or range(grid**2))
    kinds = [part.kinds for part in data.train.parts.values()]
    rows, num_bad = list[Shown](), 0
    while len(rows) < num:
        first = size * (step + len(rows) // size)
        batch, samples = batches[first // size], reader.read(np.arange(first, first + size))
        num_bad += len(samples.bad)
        keys = data.train.keys(samples.row_B)
        for index in range(min(size, num - len(rows))):
            prefix_len, part = int(batch.prefix_len_B[index]), int(samples.part_B[index])
            is_seen_GG = np.ones((grid, grid), dtype=bool)
            if has_prefix:
                is_seen_GG.flat[order[prefix_len:]] = False
            pictures = [dimmed(unnormalise(batch.image[index]), is_seen_GG)]
            if batch.target_image is not None:
                pictures.append(unnormalise(batch.target_image[index]))
            kind = kinds[part][0] if len(kinds[part]) == 1 else CAPTION_KINDS[int(samples.is_dense_B[index])]
            facts = [f"{kind}, {config.data.names[part]} {keys[index]}", f"epoch {int(samples.epoch_B[index])}"]
            facts += [f"prefix {prefix_len} of {grid**2}"] if has_prefix else []
            words = divided(data.tokenizer, samples.captions[index], batch.token_BT[index].numpy())
            rows.append(Shown(pictures, ", ".join(facts), words))
    return num_bad, rows


def dimmed(picture: np.ndarray, is_seen_GG: np.ndarray) -> np.ndarray:
    """Return a picture, uint8 [P, P, 3], whose other patches are nearly white."""
    patch_px = len(picture) // len(is_seen_GG)
    is_seen = np.kron(is_seen_GG, np.ones((patch_px, patch_px), dtype=bool))[..., None]
    return np.where(is_seen, picture, 255 - (255 - picture) // 3)


def divided(tokenizer: CaptionTokenizer, caption: str, token_T: np.ndarray) -> list[Word]:
    """Return the words of a caption, divided into their tokens by ``·``; those without one of the tokens are wrong."""
    words = clean(caption).split()
    pieces: list[list[str]] = [[] for _ in words]
    for token, word in zip(token_T.tolist(), tokenizer.token_words([words], len(token_T))[0].tolist(), strict=True):
        if word >= 0:
            pieces[word].append(tokenizer.decode([token]))
    return [
        Word("·".join(filter(None, parts)) or ("?" if parts else word), bool(parts))
        for word, parts in zip(words, pieces, strict=True)
    ]
