"""Measure what must not grow: the start on two billion samples, memory over a run, and the indexing of shards.

Letters: R repeats, 2 clocks (wall and CPU seconds).
"""

import multiprocessing
import resource
import shutil
import tracemalloc
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from benchmarks.synthetic import PHOTOGRAPHS, SCENES, WORDS, describe, link_shards, write_huge, write_shards
from benchmarks.timing import CLOCKS
from rich.table import Table

from aimv2.config.run_config import RunConfig
from aimv2.data.batches.batch import Batch
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.datasets.description import read_source
from aimv2.datasets.index_folder import index_path
from aimv2.datasets.open import prepare_source
from aimv2.datasets.shards.build import build_index
from benchmarks import loaders

HUGE_SHARD_ROWS = 10_000
WARM_SAMPLES = 10_000  # after which memory should not grow
MAX_WRITTEN = 50_000  # samples for the measurement of memory; a longer run repeats them
INDEX_SAMPLES = 2_000  # of the shards that are indexed, which repeat; 90 MB, more than most processors cache
READ_BYTES = 2**20
STATM = Path("/proc/self/statm")  # sizes of this process in pages


def first_batch(folder: Path, num_shards: int, batch_size: int, repeats: int) -> str:
    """Measure the time and memory from opening an index of many shards to the first batch, in one sentence."""
    config = huge_run(folder / "huge", num_shards=num_shards, shard_rows=HUGE_SHARD_ROWS, batch_size=batch_size)
    load = partial(load_first, config)
    peak = peak_bytes(load)
    wall_R, cpu_R = timed({"": load}, repeats)[""].T
    return (
        f"first batch of {num_shards * HUGE_SHARD_ROWS:,} samples in {num_shards:,} shards: {np.median(wall_R):.2f} s"
        f" ({wall_R.min():.2f} to {wall_R.max():.2f}), {np.median(cpu_R):.2f} CPU s; at most {peak / 1e6:.0f} MB of"
        " Python and NumPy at a time"
    )


def huge_run(folder: Path, *, num_shards: int, shard_rows: int, batch_size: int) -> RunConfig:
    """Return a run on a new huge index, whose first batch can be loaded; ``folder`` is for the shards."""
    tokenizer = folder.with_name("tokenizer of huge.json")
    description = folder.with_suffix(".yaml")
    config = loaders.run_config(description, SCENES, batch_size=batch_size, samples=batch_size, tokenizer=tokenizer)
    write_huge(folder, num_shards=num_shards, shard_rows=shard_rows, num_samples=batch_size, seed=config.seed)
    tokenizer.write_text(CaptionTokenizer.train(WORDS, config.model.vocab_size).to_json())
    return config


def load_first(config: RunConfig) -> Batch:
    """Open the data of a run, and return its first batch."""
    data = prepare(config.data, config.model)
    return TrainBatches(config, data.train, data.tokenizer)[0]


def peak_bytes(call: Callable[[], object]) -> int:
    """Return the largest memory of Python and NumPy during a call, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def memory(folder: Path, num_samples: int, batch_size: int, statm: Path = STATM) -> str:
    """Measure the memory of a process that loads scenes early and late in a run, in one sentence."""
    if not statm.exists():
        return f"memory of a loader: not measured, because this system has no {statm}"
    write_shards(folder / "memory", SCENES, min(num_samples, MAX_WRITTEN))
    prepare_source(read_source(description := describe(folder / "memory")))
    num_steps = -(-num_samples // batch_size)
    config = loaders.run_config(description, SCENES, batch_size=batch_size, samples=num_steps * batch_size)
    warm = -(-min(WARM_SAMPLES, num_samples) // batch_size)
    # A process of its own, because what was measured before has left its memory in this one.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        start, early, late = pool.submit(resident_bytes, config, [0, warm, num_steps], statm).result()
    return (
        f"memory of a loader: {start / 1e6:.0f} MB with the data open, {early / 1e6:.0f} MB after"
        f" {warm * batch_size:,} samples, {late / 1e6:.0f} MB after {num_steps * batch_size:,}"
        f" ({(late - early) / 1e6:+.1f} MB)"
    )


def resident_bytes(config: RunConfig, steps: Sequence[int], statm: Path = STATM) -> list[int]:
    """Load the batches of a run, and return the resident memory of this process after these numbers of steps."""
    torch.set_num_threads(1)
    data = prepare(config.data, config.model)
    batches = TrainBatches(config, data.train, data.tokenizer)
    found, done = [], 0
    for end in steps:
        for step in range(done, end):
            batches[step]
        done = end
        found.append(int(statm.read_text().split()[1]) * resource.getpagesize())
    return found


def index_rates(folder: Path, num_mb: int, repeats: int) -> Table:
    """Measure the rate of indexing beside that of reading the same files and computing their CRC-32."""
    written = write_shards(folder / "indexed", PHOTOGRAPHS, min(INDEX_SAMPLES, 25 * num_mb))  # of 40 kB
    num_shards = -(-num_mb * 10**6 // written[0].stat().st_size)
    shards = link_shards(folder / "index", written, num_shards)
    num_bytes = sum(shard.stat().st_size for shard in shards)
    description = describe(folder / "index")
    calls: dict[str, Callable[[], object]] = {
        "index, 1 process": partial(_index, description, 1),
        "index, 2 processes": partial(_index, description, 2),
        "read and CRC-32": partial(_read, shards),
    }
    seconds = timed(calls, repeats)
    table = Table("", title=f"index of {num_shards:,} shards, {num_bytes / 1e6:,.0f} MB in samples of about 40 kB")
    for column in ("MB / s", "MB / CPU s", "of the read's rate"):
        table.add_column(column, justify="right")
    read_R = seconds["read and CRC-32"][:, 0]
    for name, seconds_R2 in seconds.items():
        wall, cpu = np.median(seconds_R2, axis=0)
        share = np.median(read_R / seconds_R2[:, 0])
        table.add_row(name, f"{num_bytes / 1e6 / wall:,.0f}", f"{num_bytes / 1e6 / cpu:,.0f}", f"{share:.2f}")
    return table


def _index(description: Path, workers: int) -> None:
    location = read_source(description)
    shutil.rmtree(index_path(location), ignore_errors=True)  # so that no shard counts as known
    build_index(location, workers, lambda done, total: None)


def _read(shards: Sequence[Path]) -> int:
    """Read files and return the CRC-32 of their contents together, as the index computes one for each shard."""
    content = memoryview(bytearray(READ_BYTES))
    crc = 0
    for shard in shards:
        with shard.open("rb", buffering=0) as file:
            while length := file.readinto(content):
                crc = zlib.crc32(content[:length], crc)
    return crc


def timed(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, np.ndarray]:
    """Time calls of seconds each in turn: wall and CPU seconds, float64 [R, 2] each."""
    seconds: dict[str, list[list[float]]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            starts = [clock() for clock in CLOCKS.values()]
            call()
            seconds[name].append([clock() - start for clock, start in zip(CLOCKS.values(), starts, strict=True)])
    return {name: np.array(rows) for name, rows in seconds.items()}
