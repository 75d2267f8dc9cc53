"""Time the loading of shards beside webdataset and a bare loop, interleaved in one process. Letters: R repeats."""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Annotated, Literal

import numpy as np
import torch
from benchmarks.synthetic import NUM_SHARDS, PHOTOGRAPHS, SCENES, Pictures, describe, link_shards, write_shards
from benchmarks.timing import CLOCKS, interleaved, ratio, read_options, uncertain
from pydantic import Field, NonNegativeInt, PositiveInt
from rich.console import Console
from rich.table import Table
from torch import Tensor

from aimv2.base.errors import RunFailedError
from aimv2.base.files import writable_folder
from aimv2.base.hardware import hardware
from aimv2.config.arguments import HELP
from aimv2.config.run_config import LoaderConfig
from aimv2.data.prepare import prepare
from aimv2.datasets.description import read_source
from aimv2.datasets.open import prepare_source
from benchmarks import loaders, scale

OURS, WEBDATASET, BARE = "ours", "webdataset", "bare loop"
STARTS = (1, 100, 10_000)  # numbers of shards

FOOTNOTE = (
    "ours / it: the speed of ours over that of the loader; the median over repeats of the ratio of two timings, and its"
    " 95 % interval by order statistics. The bare loop reads and crops the images, and nothing else: no captions, no"
    " random order."
)
USAGE = f"""usage: python -m aimv2 bench data [key=value ...]

Time the loading of made-up shards beside plain webdataset and a bare loop of reading, decoding and cropping,
interleaved in one process; the time from opening many shards, or an index of billions of samples, to the first batch;
the memory of a process that loads for long; and the rate at which shards are indexed.

  batches=4                    batches of photographs per timing, and {SCENES.per_photograph} times as many of scenes;
                               0: rates are not measured
  batch_size=64                images per batch
  repeats=6                    timings of each loader; an interval needs 6
  max_workers=2                loader workers: every number from 0 to this
  max_shards=10000             largest number of shards to open ({", ".join(map(str, STARTS))}); 0: not measured
  huge_shards=200000           shards of {scale.HUGE_SHARD_ROWS:,} samples in the index of billions; 0: not measured
  memory_samples=100000        samples that a process loads for its memory; 0: not measured
  index_mb=1000                megabytes of shards to index; 0: not measured
  clock=wall                   wall, or cpu: CPU seconds of the process and its loader workers, for a busy machine
  folder=/tmp                  where a temporary folder is made; the default is the system's
  debug=true                   show the traceback of an error
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of ``bench data``, as USAGE describes them."""

    batches: NonNegativeInt = 4
    batch_size: PositiveInt = 64
    repeats: Annotated[int, Field(ge=2)] = 6
    max_workers: NonNegativeInt = 2
    max_shards: NonNegativeInt = STARTS[-1]
    huge_shards: NonNegativeInt = 200_000
    memory_samples: NonNegativeInt = 100_000
    index_mb: NonNegativeInt = 1000
    clock: Literal["wall", "cpu"] = "wall"
    folder: str = tempfile.gettempdir()


def data_command(arguments: Sequence[str]) -> int:
    """Run ``bench data [key=value ...]`` and print the timings.

    Raises:
        UsageError: the arguments cannot be read.
        RunFailedError: a loader returns another number of images, or images of another shape.
    """
    if HELP & set(arguments):
        print(USAGE, end="")
        return 0
    options = read_options(Options, arguments)
    writable_folder(options.folder, "folder")
    console = Console()
    with _one_thread(), tempfile.TemporaryDirectory(prefix="aimv2-bench-", dir=options.folder) as name:
        folder = Path(name)
        if options.batches:
            _compare(folder, options, console)
        if options.max_shards:
            for title, cells in starts(folder, options).items():
                console.print(f"{title}: {cells}", highlight=False)
        if options.huge_shards:
            first = scale.first_batch(folder, options.huge_shards, options.batch_size, options.repeats)
            console.print(first, highlight=False, soft_wrap=True)
        if options.memory_samples:
            memory = scale.memory(folder, options.memory_samples, options.batch_size)
            console.print(memory, highlight=False, soft_wrap=True)
        if options.index_mb:
            console.print(scale.index_rates(folder, options.index_mb, options.repeats))
    console.print(_sentence(options), highlight=False)
    return 0


def _compare(folder: Path, options: Options, console: Console) -> None:
    """Print the rates of the three loaders, for each kind of pictures and number of loader workers."""
    for kind in (PHOTOGRAPHS, SCENES):
        bench = Bench(folder, kind, options)
        for workers in range(options.max_workers + 1):
            seconds = bench.measure(workers)
            console.print(table(seconds, bench.num_images, title=f"{kind.name}, {workers} loader workers"))
            for other in (WEBDATASET, BARE):
                if warning := uncertain(other, seconds[other], seconds[OURS]):
                    console.print(warning, style="yellow", highlight=False, soft_wrap=True)
    console.print(FOOTNOTE, highlight=False)


class Bench:
    """Shards of one kind of pictures, written and opened, and the three loaders of them.

    Attributes:
        num_images: in a timing.
    """

    def __init__(self, folder: Path, kind: Pictures, options: Options) -> None:
        self.num_images = options.batches * options.batch_size * kind.per_photograph
        self._kind, self._options = kind, options
        self._shards = write_shards(folder / kind.name, kind, self.num_images)
        self._places = loaders.places(self._shards, kind.extension)
        description = describe(folder / kind.name)
        prepare_source(read_source(description))
        self._config = loaders.run_config(description, kind, batch_size=options.batch_size, samples=self.num_images)
        self._data = prepare(self._config.data, self._config.model)

    def measure(self, workers: int) -> dict[str, np.ndarray]:
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


def starts(folder: Path, options: Options) -> dict[str, str]:
    """Return the times from opening shards to the first batch, without loader workers, and those of the index."""
    (shard, *_) = write_shards(folder / "start", SCENES, NUM_SHARDS * options.batch_size)
    calls: dict[str, Callable[[], object]] = {}
    found = {}
    tokenizer = folder / "tokenizer.json"
    for num_shards in (number for number in STARTS if number <= options.max_shards):
        title = f"{num_shards:,} shards" if num_shards > 1 else "1 shard"
        shards = link_shards(folder / f"start-{num_shards}", [shard], num_shards)
        description = describe(folder / f"start-{num_shards}")
        begin = perf_counter()
        prepare_source(read_source(description))
        found[f"{title}, index"] = f"{perf_counter() - begin:.3g} s, once"
        config = loaders.run_config(description, SCENES, batch_size=options.batch_size, samples=options.batch_size)
        if not tokenizer.exists():
            tokenizer.write_text(prepare(config.data, config.model).tokenizer.to_json())
        config = replace(config, data=replace(config.data, tokenizer=str(tokenizer)))
        sizes = (config.augment.of(config.data), SCENES.image_px, options.batch_size, 0)
        calls[f"{title}, {OURS}"] = partial(_first, partial(loaders.ours, config))
        calls[f"{title}, {WEBDATASET}"] = partial(_first, partial(loaders.webdataset, shards, *sizes))
    seconds = interleaved(calls, options.repeats, min_seconds=0, clock=CLOCKS[options.clock])
    return found | {
        title: f"{np.median(seconds_R):.3f} s ({seconds_R.min():.3f} to {seconds_R.max():.3f})"
        for title, seconds_R in seconds.items()
    }


def _first(load: Callable[[], Iterator[Tensor]]) -> Tensor:
    return next(load())


def table(seconds: Mapping[str, np.ndarray], num_images: int, title: str) -> Table:
    """Return a row per loader: its rate, and ours relative to it."""
    shown = Table("loader", title=title)
    for column in ("images / s", "ours / it", "95 %"):
        shown.add_column(column, justify="right")
    for name, seconds_R in seconds.items():
        speedup, interval = "", ""
        if name != OURS:
            median, low, high = ratio(seconds_R, seconds[OURS])
            speedup, interval = f"{median:.3f}", "" if math.isnan(low) else f"{low:.3f} – {high:.3f}"
        shown.add_row(name, f"{num_images / np.median(seconds_R):,.0f}", speedup, interval)
    return shown


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread in this process, as in loader workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _sentence(options: Options) -> str:
    """Describe the machine, the versions and the sizes."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "pillow", "webdataset"))
    pictures = ", ".join(
        f"{kind.name} of {kind.width} x {kind.height} px ({kind.extension}) cropped to {kind.image_px} px"
        for kind in (PHOTOGRAPHS, SCENES)
    )
    return (
        f"{hardware('cpu')}, 1 thread per process, {versions}: {pictures}; batches of {options.batch_size}; medians of"
        f" {options.repeats} interleaved repeats in {options.clock} seconds; shards in the page cache."
    )
