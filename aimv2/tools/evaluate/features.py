"""Features of all images of a location, computed once and saved by weights and data.

``patches`` are the encoder's features of each patch, which the attentive probe reads. Of these there are hundreds for
each image, so they are float16: after the final norm their rounding is below that of bfloat16 computation, and half
the disk is saved. ``mean`` is the mean over patches and ``embedding`` the unit vector of a pair of encoders; both are
small, and float32.

Letters: N rows, B images of a batch, I patches, D width, S width of the space of images and texts.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.format import open_memmap
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.base.files import write_json
from aimv2.data.batches.training import loaded
from aimv2.data.transforms import network_input
from aimv2.datasets.description import Location
from aimv2.datasets.labelled import OwnShape, PictureBatch, PictureBatches, Shape, Unusable, check_rate
from aimv2.datasets.records import Records
from aimv2.datasets.selection import excluded_digest
from aimv2.evaluation.features import encode_batch
from aimv2.tools.evaluate.models import Model
from aimv2.tools.evaluate.options import FeatureKind
from aimv2.training.device import autocast

VERSION = 1  # of what is computed; another number makes other folders
UNUSABLE = "bad.json"
DTYPES: dict[FeatureKind, type[np.floating]] = {"patches": np.float16, "mean": np.float32, "embedding": np.float32}
REFRESH_PER_SECOND = 2  # a thread draws, and takes time from the computation


class Split(NamedTuple):
    """A split of a set: its name, where it is, and its samples."""

    name: str
    location: Location
    records: Records


class Saved(NamedTuple):
    """Features of all rows of a split, as memory-mapped arrays, and the rows that cannot be used."""

    features: dict[FeatureKind, Tensor]
    unusable: list[Unusable]


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """How features are computed, where they are saved, and where progress is shown.

    Attributes:
        max_bad_rate: share of unusable images above which an error is raised.
    """

    model: Model
    shape: Shape | OwnShape
    device: str
    precision: str
    cache_dir: Path
    console: Console
    batch_size: int = 64
    workers: int = 0
    max_bad_rate: float = 0.01

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show how much of some work is done; yields a function that adds to it.

        Without a terminal, there is a line when the work is done.
        """
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        shown = Progress(
            *columns, console=self.console, refresh_per_second=REFRESH_PER_SECOND, disable=self.console.quiet
        )
        with shown:
            task = shown.add_task(title, total=total)
            yield lambda number: shown.advance(task, number)

    def folder(self, split: Split) -> Path:
        """Return where the features of a split are: a folder named by weights, data and computation."""
        location = {key: value for key, value in asdict(split.location).items() if key in ("image", "filters")}
        location["excluded"] = excluded_digest(split.location)
        computation: dict[str, Any] = {"shape": self.shape, "colours": self.model.preprocessing.colours}
        computation |= {"precision": self.precision, "device": self.device, "version": VERSION}
        identity = {"weights": self.model.digest, "parts": split.records.parts(), **location, **computation}
        return self.cache_dir / hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]

    def shapes(self, split: Split, kinds: Sequence[FeatureKind]) -> dict[FeatureKind, tuple[int, ...]]:
        """Return the shape of each array."""
        config, num_rows, width = self.model.config, len(split.records), self.model.config.encoder.width
        sizes: dict[FeatureKind, tuple[int, ...]] = {
            "patches": (num_rows, config.model.num_patches, width),
            "mean": (num_rows, width),
        }
        if self.model.pair is not None:
            sizes["embedding"] = (num_rows, self.model.pair.text_tower.proj.out_features)
        return {kind: sizes[kind] for kind in kinds}

    def missing(self, split: Split, kinds: Sequence[FeatureKind]) -> list[FeatureKind]:
        """Return the kinds of features that are not saved."""
        folder = self.folder(split)
        is_read = (folder / UNUSABLE).is_file()
        return [kind for kind in kinds if not (is_read and (folder / f"{kind}.npy").is_file())]


def check_room(extraction: Extraction, wanted: Sequence[tuple[Split, Sequence[FeatureKind]]]) -> None:
    """Print the size of the features that are missing.

    Raises:
        UsageError: the disk has less room.
    """
    size, num_images = 0, 0
    for split, kinds in wanted:
        missing = extraction.missing(split, kinds)
        shapes = extraction.shapes(split, missing)
        size += sum(int(np.prod(shape)) * np.dtype(DTYPES[kind]).itemsize for kind, shape in shapes.items())
        num_images += len(split.records) if missing else 0
    what = f"features: all saved in {extraction.cache_dir}"
    if size:
        free = shutil.disk_usage(extraction.cache_dir).free
        what = f"features of {num_images:,} images take {gigabytes(size)} in {extraction.cache_dir}"
        if size > free:
            raise UsageError(
                f"{what}, where {gigabytes(free)} are free; choose another cache_dir=, or methods=[linear,knn], which"
                " need no features of patches"
            )
        what += f" ({gigabytes(free)} free)"
    extraction.console.print(what, highlight=False, soft_wrap=True)


def gigabytes(size: int) -> str:
    """Format a number of bytes."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def saved(extraction: Extraction, split: Split, kinds: Sequence[FeatureKind]) -> Saved:
    """Return the features of a split, computed unless they are saved.

    Raises:
        RunFailedError: too many images cannot be used, or features are not finite.
    """
    folder = extraction.folder(split)
    if missing := extraction.missing(split, kinds):
        _compute(extraction, split, missing)
    unusable = [Unusable(*row) for row in json.loads((folder / UNUSABLE).read_text())]
    check_rate(unusable, len(split.records), extraction.max_bad_rate, split.name)
    # Copy on write, because torch takes no read-only arrays; nothing writes.
    arrays = {kind: torch.from_numpy(np.load(folder / f"{kind}.npy", mmap_mode="c")) for kind in kinds}
    return Saved(arrays, unusable)


def _compute(extraction: Extraction, split: Split, kinds: Sequence[FeatureKind]) -> None:
    """Encode all rows, and give the files their names when they are complete."""
    folder, num_rows = extraction.folder(split), len(split.records)
    dataset = PictureBatches(split.records, range(num_rows), extraction.shape, extraction.batch_size)
    folder.mkdir(parents=True, exist_ok=True)
    unusable, done = list[Unusable](), 0
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial,
        extraction.progress(f"encoding {split.name}", num_rows) as advance,
    ):
        paths = {kind: Path(partial) / f"{kind}.npy" for kind in kinds}
        arrays = {
            kind: open_memmap(paths[kind], mode="w+", dtype=DTYPES[kind], shape=shape)
            for kind, shape in extraction.shapes(split, kinds).items()
        }
        is_pinned = extraction.device == "cuda"
        for batch in loaded(dataset, range(len(dataset)), num_workers=extraction.workers, pin_memory=is_pinned):
            unusable += batch.unusable
            check_rate(unusable, num_rows, extraction.max_bad_rate, split.name)
            number = sum(len(images) for _, images in batch.by_size)
            for kind, value in encoded(extraction, batch, kinds).items():
                array = (value.half() if kind == "patches" else value).cpu().numpy()
                if not np.isfinite(array).all():
                    raise RunFailedError("data", f"{kind} features of {split.name} are not finite in {array.dtype}")
                arrays[kind][done : done + number] = array
            done += number
            advance(number)
        for kind, path in paths.items():
            arrays[kind].flush()
            path.replace(folder / path.name)
        write_json(folder / UNUSABLE, unusable)


@torch.no_grad()
def encoded(extraction: Extraction, batch: PictureBatch, kinds: Sequence[FeatureKind]) -> dict[FeatureKind, Tensor]:
    """Return the features of the images of a batch, with full attention in the encoder, float32 each.

    Only images of equal sizes have equal numbers of patches, and so features of patches together.
    """
    model, found = extraction.model, list[dict[FeatureKind, Tensor]]()
    for _, images in batch.by_size:
        image = network_input(images.to(extraction.device, non_blocking=True), model.preprocessing.colours)
        feature_BID = encode_batch(model.encoder, image, extraction)
        own: dict[FeatureKind, Tensor] = {"patches": feature_BID, "mean": feature_BID.mean(dim=1)}
        if "embedding" in kinds:
            assert model.pair is not None, "only a pair of encoders is asked for embeddings"
            with autocast(extraction):
                own["embedding"] = F.normalize(model.pair.image_head(feature_BID).float(), dim=-1)
        found.append(own)
    order = torch.cat([places for places, _ in batch.by_size]).argsort()
    return {kind: torch.cat([own[kind] for own in found])[order.to(extraction.device)] for kind in kinds}
