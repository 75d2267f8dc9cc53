"""Features of all images of a location, computed once and saved.

``patches`` are the encoder's features of each patch, which the attentive probe reads. Of these there are hundreds for
each image, so they are float16: after the final norm their rounding is below that of bfloat16 computation, and half
the disk is saved. ``mean`` is the mean over patches and ``embedding`` the unit vector of a pair of encoders; both are
small, and float32.

Letters: N rows, B images of a batch, I patches, D width, S width of the space of images and texts.
"""

import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.format import open_memmap
from rich.console import Console
from torch import Tensor

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.base.files import write_json
from aimv2.data.transforms import network_input
from aimv2.datasets.description import Location
from aimv2.datasets.images import Bad, Decode, OwnShape, OwnSizes, Shape, Squares, batches, counts
from aimv2.datasets.records import Records
from aimv2.tools.evaluate.encoding.ranks import ALONE, Ranks
from aimv2.tools.evaluate.options import Kind
from aimv2.tools.evaluate.progress import progress

if TYPE_CHECKING:
    from aimv2.tools.evaluate.encoding.models import Model  # which imports the conversion of weights

VERSION = 1  # of what is computed; another number makes other folders
BAD, FACTS = "bad.json", "features.json"
DTYPES: dict[Kind, np.dtype] = {
    "patches": np.dtype(np.float16),
    "mean": np.dtype(np.float32),
    "embedding": np.dtype(np.float32),
}


class Split(NamedTuple):
    """A split of a set: its name, where it is, and its samples."""

    name: str
    location: Location
    records: Records


class Saved(NamedTuple):
    """Features of all rows of a split, as memory-mapped arrays, and the rows that cannot be used."""

    features: dict[Kind, Tensor]
    bad: list[Bad]


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """How features are computed and where they are saved.

    Attributes:
        decode: ``aimv2.data.decode.square``.
        max_bad_rate: share of unusable images above which an error is raised.
    """

    model: "Model"
    shape: Shape | OwnShape
    device: str
    precision: str
    cache_dir: Path
    decode: Decode
    batch_size: int = 64
    workers: int = 0
    max_bad_rate: float = 0.01
    ranks: Ranks = ALONE

    def folder(self, split: Split) -> Path:
        """Return where the features of a split are: a folder named by weights, data and computation."""
        location = {key: value for key, value in asdict(split.location).items() if key in ("image", "filters")}
        computation = {"shape": self.shape, "precision": self.precision, "device": self.device, "version": VERSION}
        identity = {"weights": self.model.digest, "parts": split.records.parts(), **location, **computation}
        return self.cache_dir / hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]

    def shapes(self, split: Split, kinds: Sequence[Kind]) -> dict[Kind, tuple[int, ...]]:
        """Return the shape of each array."""
        config, num_rows, width = self.model.config, len(split.records), self.model.config.encoder.width
        sizes: dict[Kind, tuple[int, ...]] = {
            "patches": (num_rows, config.model.num_patches, width),
            "mean": (num_rows, width),
        }
        if self.model.pair is not None:
            sizes["embedding"] = (num_rows, self.model.pair.text_tower.proj.out_features)
        return {kind: sizes[kind] for kind in kinds}

    def missing(self, split: Split, kinds: Sequence[Kind]) -> list[Kind]:
        """Return the kinds of features that are not saved."""
        folder = self.folder(split)
        is_read = (folder / BAD).is_file()
        return [kind for kind in kinds if not (is_read and (folder / f"{kind}.npy").is_file())]


def check_room(extraction: Extraction, wanted: Sequence[tuple[Split, Sequence[Kind]]], console: Console) -> None:
    """Print the size of the features that are missing.

    Raises:
        UsageError: the disk has less room.
    """
    size, num_images = 0, 0
    for split, kinds in wanted:
        missing = extraction.missing(split, kinds)
        shapes = extraction.shapes(split, missing)
        size += sum(int(np.prod(shape)) * DTYPES[kind].itemsize for kind, shape in shapes.items())
        num_images += len(split.records) if missing else 0
    if not size:
        console.print(f"features: all saved in {extraction.cache_dir}", highlight=False, soft_wrap=True)
        return
    free = shutil.disk_usage(extraction.cache_dir).free
    what = f"features of {num_images:,} images take {gigabytes(size)} in {extraction.cache_dir}"
    if size > free:
        raise UsageError(
            f"{what}, where {gigabytes(free)} are free; choose another cache_dir=, or methods=[linear,knn], which need"
            " no features of patches"
        )
    console.print(f"{what} ({gigabytes(free)} free)", highlight=False, soft_wrap=True)


def gigabytes(size: int) -> str:
    """Format a number of bytes."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def extracted(extraction: Extraction, split: Split, kinds: Sequence[Kind], console: Console) -> Saved:
    """Return the features of a split, computed by all ranks unless they are saved.

    Raises:
        RunFailedError: too many images cannot be used, or features are not finite.
    """
    folder = extraction.folder(split)
    missing: list[Kind] = extraction.ranks.of_first(extraction.missing(split, kinds))
    if missing:
        _compute(extraction, split, missing, console)
    bad = [Bad(*row) for row in json.loads((folder / BAD).read_text())]
    check_rate(bad, len(split.records), extraction.max_bad_rate, split.name)
    # Copy on write, because torch takes no read-only arrays; nothing writes.
    arrays = {kind: torch.from_numpy(np.load(folder / f"{kind}.npy", mmap_mode="c")) for kind in kinds}
    return Saved(arrays, bad)


def _compute(extraction: Extraction, split: Split, kinds: Sequence[Kind], console: Console) -> None:
    """Encode this rank's part of the rows; rank 0 then gives the files of all ranks their names."""
    ranks, folder = extraction.ranks, extraction.folder(split)
    partial = folder / ranks.of_first(f".partial-{uuid.uuid4().hex}")
    shapes = extraction.shapes(split, kinds)
    if ranks.rank == 0:
        partial.mkdir(parents=True)
    try:
        if ranks.rank == 0:
            for kind, shape in shapes.items():
                open_memmap(partial / f"{kind}.npy", mode="w+", dtype=DTYPES[kind], shape=shape)
        ranks.gathered(None)  # the files exist
        started = time.monotonic()
        bad = [each for found in ranks.gathered(_encode(extraction, split, kinds, partial, console)) for each in found]
        if ranks.rank == 0:
            check_rate(bad, len(split.records), extraction.max_bad_rate, split.name)
            for kind in kinds:
                (partial / f"{kind}.npy").replace(folder / f"{kind}.npy")
            write_json(folder / FACTS, _facts(extraction, split, time.monotonic() - started))
            write_json(folder / BAD, bad)
        ranks.gathered(None)  # the files have their names
    finally:
        if ranks.rank == 0:
            shutil.rmtree(partial, ignore_errors=True)


@torch.no_grad()
def _encode(extraction: Extraction, split: Split, kinds: Sequence[Kind], partial: Path, console: Console) -> list[Bad]:
    """Write the features of this rank's rows into the files, and return the rows that cannot be used."""
    ranks, num_rows = extraction.ranks, len(split.records)
    rows = ranks.share(num_rows)
    shape, size = extraction.shape, extraction.batch_size
    dataset: Squares | OwnSizes = (
        OwnSizes(split.records, rows, shape, size)
        if isinstance(shape, OwnShape)
        else Squares(split.records, rows, shape, size, extraction.decode)
    )
    bad: list[Bad] = []
    start = rows.start
    with ExitStack() as opened:
        advance = opened.enter_context(progress(console, f"encoding {split.name}", len(rows)))
        files = {kind: opened.enter_context(RowFile(partial / f"{kind}.npy")) for kind in kinds}
        for images, bad_here in batches(dataset, extraction.workers, pin_memory=extraction.device == "cuda"):
            bad += bad_here
            check_rate(bad, num_rows, extraction.max_bad_rate, split.name)
            found = (
                encoded(extraction, images, kinds)
                if isinstance(images, Tensor)
                else _encoded_by_size(extraction, images, kinds)
            )
            for kind, value in found.items():
                array = value.to(torch.float16 if kind == "patches" else torch.float32).cpu().numpy()
                if not np.isfinite(array).all():
                    raise RunFailedError("data", f"{kind} features of {split.name} are not finite in {array.dtype}")
                files[kind].write(start, array)
            start += len(images)
            advance(len(images))
    return bad


def encoded(extraction: Extraction, images: Tensor, kinds: Sequence[Kind]) -> Mapping[Kind, Tensor]:
    """Return the features of images uint8 [B, P, P, 3], with full attention in the encoder."""
    model = extraction.model
    with torch.autocast(extraction.device, dtype=torch.bfloat16, enabled=extraction.precision == "bfloat16"):
        inputs = network_input(images.to(extraction.device, non_blocking=True))
        feature_BID = model.encoder(inputs)
        found: dict[Kind, Tensor] = {"patches": feature_BID, "mean": feature_BID.float().mean(dim=1)}
        if "embedding" in kinds:
            assert model.pair is not None, "only a pair of encoders is asked for embeddings"
            found["embedding"] = F.normalize(model.pair.image_head(feature_BID).float(), dim=-1)
    return {kind: found[kind] for kind in kinds}


def _encoded_by_size(extraction: Extraction, images: Sequence[Tensor], kinds: Sequence[Kind]) -> dict[Kind, Tensor]:
    """Return the features of images of their own sizes, those of one size together."""
    rows_of: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(images):
        rows_of.setdefault(tuple(image.shape), []).append(row)
    order = torch.tensor([row for rows in rows_of.values() for row in rows]).argsort()
    parts = [encoded(extraction, torch.stack([images[row] for row in rows]), kinds) for rows in rows_of.values()]
    return {kind: torch.cat([part[kind] for part in parts])[order] for kind in kinds}


class RowFile:
    """An array file into which several processes write their own rows, each by its place in the file."""

    def __init__(self, path: Path) -> None:
        array = np.load(path, mmap_mode="r")
        assert isinstance(array, np.memmap), "a memory-mapped file has an offset"
        self._offset, self._dtype = array.offset, array.dtype
        self._row_bytes = array.dtype.itemsize * int(np.prod(array.shape[1:]))
        self._file = path.open("r+b", buffering=0)

    def write(self, row: int, array: np.ndarray) -> None:
        """Write rows from this one on."""
        assert array.dtype == self._dtype, f"rows are {array.dtype}, and the file {self._dtype}"
        self._file.seek(self._offset + row * self._row_bytes)
        rest = memoryview(np.ascontiguousarray(array).data).cast("B")
        while rest:  # the system may write less than it is given
            rest = rest[self._file.write(rest) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def check_rate(bad: Sequence[Bad], num_rows: int, max_bad_rate: float, split: str) -> None:
    """Raise a RunFailedError if too many images cannot be used."""
    if len(bad) > max_bad_rate * num_rows:
        raise RunFailedError(
            "data",
            f"{split}: {len(bad):,} of {num_rows:,} images cannot be used ({counts(bad)}; the first is {bad[0].key!r}:"
            f" {bad[0].detail}), which is more than max_bad_rate={max_bad_rate:g}",
        )


def _facts(extraction: Extraction, split: Split, seconds: float) -> dict[str, object]:
    return {
        "weights": extraction.model.name,
        "weights_digest": extraction.model.digest,
        "split": split.name,
        "images": len(split.records),
        "shape": extraction.shape._asdict(),
        "precision": extraction.precision,
        "device": extraction.device,
        "seconds": seconds,
        "ranks": extraction.ranks.size,
    }
