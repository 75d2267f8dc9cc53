"""Measure the start on billions of samples, and indexing.

The rows of the huge index are a sparse file, and only the samples of its first batch are written; its memory is the
peak of what Python and NumPy allocate. Indexing starts its processes for each timing.
"""

import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.config.data_config import CHECKED
from aimv2.config.run_config import RunConfig
from aimv2.data.batches.batch import Batch
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.datasets.description import read_source
from aimv2.datasets.index_folder import index_path
from aimv2.datasets.shards.build import build_index
from analysis.costs.ratios import median
from benchmarks.data import LoadingOptions, run_config
from benchmarks.results import Cell, Table
from benchmarks.synthetic import PHOTOGRAPHS, SCENES, WORDS, describe, link_shards, write_huge, write_shards
from benchmarks.timing import CLOCKS, interleaved

HUGE_SHARD_ROWS = 10_000
INDEX_SAMPLES = 2_000  # of the shards that are indexed, which repeat; 90 MB, more than most processors cache


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ScaleOptions(LoadingOptions):
    """How much of it, and where."""

    huge_shards: int = Field(
        default=200_000, ge=0, description=f"shards of {HUGE_SHARD_ROWS:,} samples in the huge index; 0: none"
    )
    index_mb: int = Field(default=1000, ge=0, description="megabytes of shards to index; 0: none")


def measure(options: ScaleOptions) -> Iterator[Table]:
    """Yield a table for each of the two.

    Raises:
        UsageError: the folder cannot be written.
    """
    with options.temporary() as folder:
        if options.huge_shards:
            yield first_batch(folder, options)
        if options.index_mb:
            yield index_rates(folder, options)


def first_batch(folder: Path, options: ScaleOptions) -> Table:
    """Measure the time and memory from opening an index of many shards to the first batch."""
    config = huge_run(
        folder / "huge", num_shards=options.huge_shards, shard_rows=HUGE_SHARD_ROWS, batch_size=options.batch_size
    )
    load = partial(load_first, config)
    peak = traced_peak(load)
    seconds = interleaved({"load": load}, options.repeats, min_seconds=0, clock=CLOCKS[options.clock])
    row: dict[str, Cell] = {
        "samples": options.huge_shards * HUGE_SHARD_ROWS,
        "shards": options.huge_shards,
        "seconds": median(seconds["load"]),
        "memory, MB": peak / 1e6,
    }
    return Table(f"from opening to the first batch of {options.batch_size}", [row])


def huge_run(folder: Path, *, num_shards: int, shard_rows: int, batch_size: int) -> RunConfig:
    """Return a run on a new huge index, whose first batch can be loaded; ``folder`` is for the shards."""
    tokenizer = folder.with_name("tokenizer of huge.json")
    description = folder.with_suffix(".yaml")
    config = run_config(description, SCENES, batch_size=batch_size, samples=batch_size, tokenizer=tokenizer)
    write_huge(folder, num_shards=num_shards, shard_rows=shard_rows, num_samples=batch_size, seed=config.seed)
    tokenizer.write_text(CaptionTokenizer.train(WORDS, config.model.vocab_size).to_json())
    return config


def load_first(config: RunConfig) -> Batch:
    data = prepare(config.data, config.model)
    return TrainBatches(config, data.train, data.tokenizer)[0]


def traced_peak(call: Callable[[], object]) -> int:
    """Return the largest memory of Python and NumPy during a call, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def index_rates(folder: Path, options: ScaleOptions) -> Table:
    """Measure the rate of indexing with one process and with two."""
    written = write_shards(folder / "indexed", PHOTOGRAPHS, min(INDEX_SAMPLES, 25 * options.index_mb))  # of 40 kB
    num_shards = -(-options.index_mb * 10**6 // written[0].stat().st_size)
    shards = link_shards(folder / "index", written, num_shards)
    num_mb = sum(shard.stat().st_size for shard in shards) / 1e6
    description = describe(folder / "index")
    calls: dict[str, Callable[[], object]] = {
        "index, 1 process": partial(_index, description, 1),
        "index, 2 processes": partial(_index, description, 2),
    }
    seconds = interleaved(calls, options.repeats, min_seconds=0, clock=CLOCKS[options.clock])
    rows: list[dict[str, Cell]] = [
        {"": name, "MB / s": num_mb / float(np.median(seconds_R))} for name, seconds_R in seconds.items()
    ]
    return Table(f"index of {num_shards:,} shards, {num_mb:,.0f} MB in samples of about 40 kB", rows)


def _index(description: Path, workers: int) -> None:
    location = read_source(description)
    shutil.rmtree(index_path(location), ignore_errors=True)  # so that no shard counts as known
    build_index(location, workers, lambda done, total: None)
