"""Image-text pairs in WebDataset shards, indexed once and then memory-mapped.

A folder has ``000000.tar``, ``000001.tar``, … as the webdataset library writes them. Each sample is a ``.npy`` image
(uint8 [side, side, 3], all of the same side) and a ``.json`` of labels. ``index.parquet`` has the labels and the shard
and offset of each picture, so that samples are read in any order without unpacking.
"""

import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from aimv2.base.errors import UsageError

INDEX = "index.parquet"
PAIRS_PER_SHARD = 4096


class Shards:
    """A folder of shards, opened for reading.

    Attributes:
        table: a row per sample, in the order of writing: its labels, and ``shard``, ``offset``, ``side``.

    Raises:
        UsageError: the folder has no index, or a shard is missing or shorter than the index says.
    """

    def __init__(self, folder: Path) -> None:
        import pandas as pd  # here, because a run on scenes needs none to start

        self.folder = folder
        try:
            self.table = pd.read_parquet(folder / INDEX)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{folder / INDEX} cannot be read ({error}); delete {folder} and it is made again"
            ) from error
        ends = (self.table["offset"] + 3 * self.table["side"] ** 2).groupby(self.table["shard"]).max()
        for shard, end in ends.items():
            path = folder / str(shard)
            if not path.is_file() or path.stat().st_size < end:
                raise UsageError(f"shard {path} is missing or cut short; delete {folder} and it is made again")

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def _places(self) -> list[tuple[np.ndarray, int, int]]:
        """The memory map, offset and side of each picture."""
        maps = {name: np.memmap(self.folder / name, mode="r") for name in self.table["shard"].unique()}
        columns = (self.table[name].tolist() for name in ("shard", "offset", "side"))
        return [(maps[shard], offset, side) for shard, offset, side in zip(*columns, strict=True)]

    def image(self, row: int) -> np.ndarray:
        """Return the picture of a row: uint8 [side, side, 3], a view of the file."""
        shard, offset, side = self._places[row]
        return shard[offset : offset + 3 * side * side].reshape(side, side, 3)

    def __getstate__(self) -> dict[str, Any]:
        # Each loader worker opens the memory maps itself.
        return {key: value for key, value in vars(self).items() if key != "_places"}


def write_shards(
    folder: Path, samples: Iterable[tuple[np.ndarray, dict[str, Any]]], *, pairs_per_shard: int = PAIRS_PER_SHARD
) -> None:
    """Write pictures with labels (which include a unique ``key``) as shards and an index, atomically.

    Two processes may write the same folder at the same time; the first to finish wins.
    """
    import pandas as pd
    import webdataset as wds  # here, because it loads torch, which readers do not need

    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with wds.ShardWriter(str(partial / "%06d.tar"), maxcount=pairs_per_shard, verbose=0) as writer:
            for image, labels in samples:
                writer.write({"__key__": labels["key"], "npy": image, "json": labels})
        pd.DataFrame(_read_index(partial)).to_parquet(partial / INDEX)
        partial.chmod(0o755)
        try:
            os.rename(partial, folder)
        except OSError:
            if not (folder / INDEX).exists():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read_index(folder: Path) -> Iterator[dict[str, Any]]:
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            places: dict[str, tuple[int, int]] = {}
            labels: dict[str, dict[str, Any]] = {}
            for member in tar:
                key, _, extension = member.name.partition(".")
                stream = tar.extractfile(member)
                assert stream is not None, f"{shard}: {member.name} is not a file, though this module wrote it"
                if extension == "json":
                    labels[key] = json.load(stream)
                else:
                    np.lib.format.read_magic(stream)
                    (side, _, _), _, _ = np.lib.format.read_array_header_1_0(stream)
                    places[key] = (member.offset_data + stream.tell(), side)
        for key, (offset, side) in places.items():
            yield {**labels[key], "shard": shard.name, "offset": offset, "side": side}
