"""Measure what a run fetches of shards behind URLs, and how long it waits for them, at a web server on this host.

The pictures are small, and filled up to the size of photographs. Letters: B images of a node.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydantic.dataclasses
from pydantic import Field

from aimv2.base.errors import RunFailedError
from aimv2.base.files import writable_folder
from aimv2.config.data_config import CHECKED
from aimv2.config.paths import replaced
from aimv2.config.recipes.scales import demo
from aimv2.config.run_config import RunConfig
from aimv2.data.batches.training import TrainBatches, loader
from aimv2.data.prepare import Data, prepare
from aimv2.data.reading import Reader
from aimv2.datasets.description import read_source
from aimv2.datasets.open import prepare_location
from benchmarks.options import Kept
from benchmarks.results import Cell, Table
from benchmarks.synthetic import SCENES, draw
from tests.helpers.shards import write_tar
from tests.helpers.web_server import WebServer, serving

NUM_PICTURES = 64  # different ones; samples repeat them
BATCH = 64
BLOCKS = 20  # of an epoch, while stalls are measured


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class RemoteOptions(Kept):
    """How large the sets are, and how fast the server."""

    folder: str = Field(default=tempfile.gettempdir(), description="where a temporary folder is made")
    shards: int = Field(default=100, gt=0, description="shards of a set")
    pairs: int = Field(default=500, gt=0, description="pairs in a shard of the set that a run prepares")
    pair_kb: int = Field(default=60, gt=0, description="kB of each of them")
    nodes: int = Field(default=8, gt=0, description="machines that read an epoch, each with a cache of its own")
    seconds: float = Field(default=60.0, gt=0, description="length of the epoch in which stalls are measured")
    speed: float = Field(default=1.5, gt=0, description="bandwidth of the server, in what the epoch needs")


def measure(options: RemoteOptions) -> Iterator[Table]:
    """Yield what is fetched, and then the stalls.

    Raises:
        UsageError: the folder cannot be written.
        RunFailedError: a run fails.
    """
    writable_folder(options.folder, "folder")
    with tempfile.TemporaryDirectory(prefix="aimv2-benchmark-", dir=Path(options.folder).absolute()) as name:
        large, small = Path(name) / "large", Path(name) / "small"
        rows = []
        with written(large, options.shards, options.pairs, options.pair_kb * 1000) as served:
            rows.append(served.row("before the shards of the first batch", before_first_batch(served)))
        with written(small, options.shards, options.pairs // 10, options.pair_kb * 300) as served:
            for canonical in (1, options.nodes):
                fetched = sum(epoch_of_node(served, node, options.nodes, canonical) for node in range(options.nodes))
                what = f"in an epoch of {options.nodes} nodes, canonical_nodes={canonical}"
                rows.append(served.row(what, fetched))
            yield Table("bytes from the server", rows)
            yield Table("waits for data", [stalls(served, options)])


@dataclass(frozen=True)
class Served:
    """A set of shards behind a web server, indexed."""

    server: WebServer
    description: Path
    num_pairs: int
    num_bytes: int

    def row(self, what: str, fetched: int) -> dict[str, Cell]:
        return {
            "fetched": what,
            "MB": fetched / 1e6,
            "set, MB": self.num_bytes / 1e6,
            "share": fetched / self.num_bytes,
        }

    def config(self, cache: str, **values: object) -> RunConfig:
        """Return a run on the set, with an empty cache of this name."""
        own: Mapping[str, object] = {
            "data.sources": (str(self.description),),
            "data.cache_dir": str(self.description.parent / cache),
            "budget": {"samples": self.num_pairs // BATCH * BATCH, "batch_size": BATCH},
            **values,
        }
        return replaced(demo(), own)


@contextmanager
def written(folder: Path, num_shards: int, num_pairs: int, pair_bytes: int) -> Iterator[Served]:
    """Write a set with pictures of so many bytes, serve it, and index it over the web."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    pictures = [draw(SCENES, generator) for _ in range(NUM_PICTURES)]
    pictures = [picture + generator.bytes(pair_bytes - len(picture)) for picture in pictures]
    for shard in range(num_shards):
        numbers = range(shard * num_pairs, (shard + 1) * num_pairs)
        members = (
            (f"{number:07}.{extension}", content)
            for number in numbers
            for extension, content in (
                ("png", pictures[number % NUM_PICTURES]),
                ("txt", f"the caption of picture number {number} of this set".encode()),
            )
        )
        write_tar(folder / f"{shard:05}.tar", members)
    with serving(folder) as server:
        path = folder.with_suffix(".yaml")
        values = {"shards": f"{server.url}/{{00000..{num_shards - 1:05}}}.tar", "short": "txt"}
        path.write_text(json.dumps(values | {"held_out": {"fraction": 0.05}}))  # JSON is YAML
        prepare_location(read_source(path))
        server.sent.clear()
        server.requests.clear()
        yield Served(server, path, num_shards * num_pairs, sum(file.stat().st_size for file in folder.iterdir()))


def before_first_batch(served: Served) -> int:
    """Return the bytes that ``train`` fetches before it fetches the first whole shard."""
    config = served.config("cache of train")
    arguments = [f"data.sources=[{served.description}]", f"data.cache_dir={config.data.cache_dir}"]
    samples = config.budget.samples // 4 // BATCH * BATCH
    arguments += [
        f"budget.samples={samples}",
        f"budget.batch_size={BATCH}",
        f"runs_dir={served.description.parent}/runs",
    ]
    command = [sys.executable, "-m", "aimv2", "train", "scale=demo", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RunFailedError("bug", f"train failed: {done.stderr.strip()[-1000:]}")
    requests, folder = served.server.requests, served.server.folder
    is_whole = [length == (folder / path.lstrip("/")).stat().st_size for path, _, length in requests]
    return sum(length for _, _, length in requests[: is_whole.index(True)])


def epoch_of_node(served: Served, node: int, num_nodes: int, canonical: int) -> int:
    """Return the bytes that a node with an empty cache fetches for its share of an epoch's batches."""
    config = served.config(f"cache {canonical} {node}", **{"data.canonical_nodes": canonical})
    data = prepare(config.data, config.model.vocab_size)
    set_blocks(data, 2 * BLOCKS)
    served.server.sent.clear()
    reader, share = Reader(config, data.train), BATCH // num_nodes
    image_B = np.arange(node * share, (node + 1) * share)
    for step in range(len(data.train) // BATCH):
        reader.read(reader.order.places(step * BATCH, BATCH, image_B))
    return sum(served.server.sent.values())


def stalls(served: Served, options: RemoteOptions) -> dict[str, Cell]:
    """Return how long a training that takes so many seconds waits for its batches, with a loader process."""
    config = served.config("cache of stalls")
    data = prepare(config.data, config.model.vocab_size)
    num_steps = len(data.train) // BATCH
    config = replaced(config, {"budget.samples": num_steps * BATCH})
    set_blocks(data, BLOCKS)
    served.server.rate = options.speed * served.num_bytes / options.seconds
    batches = iter(loader(TrainBatches(config, data.train, data.tokenizer), micro_batch=BATCH, num_workers=1))
    started = time.monotonic()
    next(batches)
    first = time.monotonic() - started
    waited, step_seconds = 0.0, options.seconds / num_steps
    for _ in range(num_steps - 1):
        time.sleep(step_seconds)  # the training step
        asked = time.monotonic()
        next(batches)
        waited += time.monotonic() - asked
    return {
        "bandwidth / need": options.speed,
        "steps": num_steps,
        "blocks": BLOCKS,
        "first batch, s": first,
        "training, s": time.monotonic() - started - first,
        "waits, s": waited,
        "share": waited / (time.monotonic() - started - first),
    }


def set_blocks(data: Data, number: int) -> None:
    """Have so many blocks, which are as large in a small set as they would be in a larger one."""
    (pairs,) = data.train.parts.values()
    pairs.block_rows = len(pairs) // number
