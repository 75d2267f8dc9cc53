"""Time the loading of made-up shards beside plain webdataset and a bare loop of reading, decoding and cropping.

The bare loop reads and crops the images, and nothing else: no captions, no random order. Files are in the page cache.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from aimv2.base.errors import RunFailedError
from aimv2.config.data_config import CHECKED
from aimv2.config.run_config import LoaderConfig
from aimv2.data.prepare import prepare
from aimv2.datasets.description import read_source
from aimv2.datasets.open import prepare_location
from analysis.costs.ratios import relative
from benchmarks import loaders
from benchmarks.results import Cell, Table
from benchmarks.synthetic import PHOTOGRAPHS, SCENES, Pictures, describe, write_shards
from benchmarks.timing import CLOCKS, interleaved

OURS, WEBDATASET, BARE = "ours", "webdataset", "bare loop"


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DataOptions(loaders.LoadingOptions):
    """What to load, and where."""

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
    with options.temporary() as folder:
        yield Table("loading", [row for kind in (PHOTOGRAPHS, SCENES) for row in rates(folder, kind, options)])


def rates(folder: Path, kind: Pictures, options: DataOptions) -> Iterator[dict[str, Cell]]:
    """Yield the rates of the three loaders, for each number of loader workers."""
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
    """Shards of one kind of pictures, written and opened, and the three loaders of them.

    Attributes:
        num_images: in a timing.
    """

    def __init__(self, folder: Path, kind: Pictures, options: DataOptions) -> None:
        self.num_images = options.batches * options.batch_size * kind.per_photograph
        self._kind, self._options = kind, options
        self._shards = write_shards(folder / kind.name, kind, self.num_images)
        self._places = loaders.places(self._shards, kind.extension)
        description = describe(folder / kind.name)
        prepare_location(read_source(description))
        self._config = loaders.run_config(description, kind, batch_size=options.batch_size, samples=self.num_images)
        self._data = prepare(self._config.data, self._config.model)

    def time(self, workers: int) -> dict[str, np.ndarray]:
        """Return the seconds that each loader takes for all images: float64 [R] each."""
        config = replace(self._config, loader=LoaderConfig(num_workers=workers))
        sizes = (config.augment.of(config.data), self._kind.image_px, self._options.batch_size, workers)
        calls: dict[str, Callable[[], Iterator[Tensor]]] = {
            OURS: partial(loaders.ours, config, self._data),
            WEBDATASET: partial(loaders.webdataset, self._shards, *sizes),
            BARE: partial(loaders.bare, self._places, *sizes),
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
