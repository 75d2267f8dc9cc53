"""Time the loading of made-up shards beside plain webdataset. Files are in the page cache. Letters: P output side."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.utils.data import DataLoader

from aimv2.analysis.costs.ratios import relative
from aimv2.base.errors import RunFailedError
from aimv2.base.files import writable_folder
from aimv2.config.data_config import CHECKED, AugmentConfig
from aimv2.config.paths import replaced
from aimv2.config.recipes.scales import demo
from aimv2.config.run_config import RunConfig
from aimv2.data.batches.training import TrainBatches, loader
from aimv2.data.decode import NUM_CROP_DRAWS, random_crop
from aimv2.data.prepare import Data, prepare
from aimv2.data.transforms import network_input
from aimv2.datasets.description import read_source
from aimv2.datasets.open import prepare_location
from benchmarks.options import Timed
from benchmarks.results import Cell, Table
from benchmarks.synthetic import PHOTOGRAPHS, SCENES, Pictures, describe, write_shards
from benchmarks.timing import CLOCKS, interleaved

OURS, WEBDATASET = "ours", "webdataset"
DRAFTS = (8, 4, 2)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DataOptions(Timed):
    """What to load, and where."""

    batch_size: int = Field(default=64, gt=0, description="images per batch")
    threads: int = Field(default=1, gt=0, description="CPU threads; loader workers have one")
    folder: str = Field(default=tempfile.gettempdir(), description="where a temporary folder is made")
    batches: int = Field(
        default=4,
        gt=0,
        description=f"batches of photographs per timing, {SCENES.per_photograph} times as many of scenes",
    )
    max_workers: int = Field(default=2, ge=0, description="loader workers: every number from 0 to this")


def measure(options: DataOptions) -> Iterator[Table]:
    """Yield the rates of loaders.

    Raises:
        UsageError: the folder cannot be written.
        RunFailedError: a loader returns another number of images, or images of another shape.
    """
    writable_folder(options.folder, "folder")
    with tempfile.TemporaryDirectory(prefix="aimv2-benchmark-", dir=Path(options.folder).absolute()) as name:
        yield Table("loading", [row for kind in (PHOTOGRAPHS, SCENES) for row in rates(Path(name), kind, options)])


def rates(folder: Path, kind: Pictures, options: DataOptions) -> Iterator[dict[str, Cell]]:
    """Yield the rates of both loaders, for each number of loader workers."""
    bench = Bench(folder, kind, options)
    for workers in range(options.max_workers + 1):
        seconds = bench.time(workers)
        for name, seconds_R in seconds.items():
            yield {
                "pictures": kind.name,
                "workers": workers,
                "loader": name,
                "images / s": bench.num_images / float(np.median(seconds_R)),
                "speed of ours / its": relative(seconds_R, seconds[OURS]) if name != OURS else None,
            }


class Bench:
    """Shards of one kind of pictures, written and opened, and the loaders of them.

    Attributes:
        num_images: in a timing.
    """

    def __init__(self, folder: Path, kind: Pictures, options: DataOptions) -> None:
        self.num_images = options.batches * options.batch_size * kind.per_photograph
        self._kind, self._options = kind, options
        self._shards = write_shards(folder / kind.name, kind, self.num_images)
        description = describe(folder / kind.name)
        prepare_location(read_source(description))
        self._config = run_config(description, kind, batch_size=options.batch_size, samples=self.num_images)
        self._data = prepare(self._config.data, self._config.model.vocab_size)

    def time(self, workers: int) -> dict[str, np.ndarray]:
        """Return the seconds that each loader takes for all images: float64 [R] each."""
        config = self._config
        sizes = (config.augment.of(config.data), self._kind.image_px, self._options.batch_size, workers)
        calls: dict[str, Callable[[], Iterator[Tensor]]] = {
            OURS: partial(load_ours, config, self._data, workers=workers),
            WEBDATASET: partial(load_webdataset, self._shards, *sizes),
        }
        counted = {name: partial(self.load_all, name, load) for name, load in calls.items()}
        return interleaved(counted, self._options.repeats, clock=CLOCKS[self._options.clock])

    def load_all(self, name: str, load: Callable[[], Iterator[Tensor]]) -> None:
        """Load every image once.

        Raises:
            RunFailedError: there is another number of images, or one has another shape.
        """
        num_images, px = 0, self._kind.image_px
        for image in load():
            if image.shape[1:] != (3, px, px) or image.dtype != torch.float32:
                raise RunFailedError("bug", f"{name} loads images of shape {tuple(image.shape)} as {image.dtype}")
            num_images += len(image)
        if num_images != self.num_images:
            raise RunFailedError("bug", f"{name} loads {num_images} of {self.num_images} images")


def run_config(description: Path, kind: Pictures, *, batch_size: int, samples: int) -> RunConfig:
    """Return a run on a described source; only what its loader computes matters here."""
    values: dict[str, Any] = {
        "data.sources": (str(description),),
        "data.cache_dir": str(description.parent / "cache"),
        "data.dense_fraction": 0.33,
        "data.render_px": kind.image_px,
        "model.image_px": kind.image_px,
        "model.patch_px": kind.patch_px,
        "model.max_text_tokens": 64,
        "budget.samples": samples,
        "budget.batch_size": batch_size,
    }
    return replaced(demo(), values)


def load_ours(config: RunConfig, data: Data | None = None, *, workers: int = 0) -> Iterator[Tensor]:
    """Load the images of a run's batches as training does; the data is opened first unless it is given."""
    data = data or prepare(config.data, config.model.vocab_size)
    batches = TrainBatches(config, data.train, data.tokenizer)
    for parts in loader(batches, micro_batch=config.budget.batch_size, num_workers=workers):
        for part in parts:
            yield part.to(torch.device("cpu")).image


def load_webdataset(
    shards: Sequence[Path], augment: AugmentConfig, px: int, batch_size: int, workers: int
) -> Iterator[Tensor]:
    """Load images and captions as webdataset documents it: decode whole images with Pillow, transform, and batch."""
    import webdataset as wds

    dataset = (
        wds.WebDataset([str(path) for path in shards], shardshuffle=False)
        .decode("pil")
        .to_tuple("jpg;png", "txt")
        .map_tuple(partial(crop_pixels, augment=augment, px=px, generator=np.random.default_rng(0)), str)
        .batched(batch_size, collation_fn=_collate)
    )
    for images, _ in DataLoader(dataset, batch_size=None, num_workers=workers):
        yield images


def crop_pixels(image: Image.Image, augment: AugmentConfig, px: int, generator: np.random.Generator) -> np.ndarray:
    """RandomResizedCrop and flip of an image, bicubic with antialiasing, as torchvision: uint8 [P, P, 3].

    A JPEG that is not loaded yet is drafted first.
    """
    drawn = random_crop(generator.random(NUM_CROP_DRAWS), image.height, image.width, augment)
    left, top, width, height = drawn.left, drawn.top, drawn.width, drawn.height
    scale = 1
    if image.format == "JPEG":
        scale = next((scale for scale in DRAFTS if min(width, height) >= scale * px), 1)
        image.draft(None, (image.width // scale, image.height // scale))
    box = (left // scale, top // scale, (left + width) // scale, (top + height) // scale)
    picture = image.convert("RGB").crop(box).resize((px, px), Image.Resampling.BICUBIC)
    return np.asarray(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if drawn.is_flipped else picture)


def _collate(samples: Sequence[tuple[np.ndarray, str]]) -> tuple[Tensor, list[str]]:
    pictures, captions = zip(*samples, strict=True)
    return network_input(torch.from_numpy(np.stack(pictures))), list(captions)
