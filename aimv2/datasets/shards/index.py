"""The index of shards: where every sample is. Letters: N samples, S shards, E extensions, U used ones.

``rows.bin`` has a ``row_type(E)`` per sample, in the order of the shards. ``parts.parquet`` names the shards, and
``shards.parquet`` has their versions, which say if they have changed, and what else a later scan needs to skip them.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aimv2.base.errors import UsageError
from aimv2.datasets.description import Location
from aimv2.datasets.index_folder import PARTS, command, index_path, read_facts, write_facts, writing
from aimv2.datasets.records import DataPart
from aimv2.datasets.shards.patterns import base_of, is_url
from aimv2.datasets.shards.scan import MEMBER, row_type

ROWS, SHARDS = "rows.bin", "shards.parquet"
IMAGES = ("jpg", "jpeg", "png", "webp")
WITHOUT_IMAGE = "samples without an image"
SEVERAL_IMAGES = f"samples with several images, of which the first of {', '.join(IMAGES)} is read"


APART = (
    "shards: no image has another member of its name beside it; members of a sample have the same path but for the"
    " extension, such as pictures/1.jpg and pictures/1.txt"
)


@dataclass(frozen=True)
class Index:
    """An open index.

    Attributes:
        base: what the names of shards start with: a folder or the start of a URL, with its slash.
        extensions: with the number of members of each.
        notes: numbers of ignored members and odd samples, by reason.
        first_row: int64 [S + 1]; shard s has the rows ``first_row[s]`` to ``first_row[s + 1] - 1``.
        rows: ``row_type(E)`` [N], mapped into memory.
        table: a row per shard, with the columns of ``DataPart`` and its ``version``; names are without the base.
    """

    base: str
    extensions: dict[str, int]
    notes: dict[str, int]
    first_row: np.ndarray
    rows: np.ndarray
    table: pa.Table

    @property
    def num_shards(self) -> int:
        return len(self.first_row) - 1

    @property
    def num_bytes(self) -> int:
        """Bytes of all shards."""
        return int(self.table["size"].to_numpy().sum())

    def name(self, shard: int) -> str:
        """Return the path or URL of a shard."""
        return _full(self.base, self.table["name"][shard].as_py())

    def digest(self) -> str:
        """Return a digest of names, sizes and checksums of the shards."""
        columns = [self.table[name].to_pylist() for name in ("name", "size", "checksum")]
        return sha256(repr(columns).encode()).hexdigest()

    def parts(self) -> list[DataPart]:
        columns = (self.table[name].to_pylist() for name in DataPart._fields)
        return [DataPart(*values) for values in zip(*columns, strict=True)]


@dataclass(frozen=True)
class ShardRows:
    """What an index holds of one shard; ``rows()`` returns its rows of type ``row_type(len(extensions))``."""

    name: str
    size: int
    version: str
    checksum: str
    notes: Counter[str]
    extensions: tuple[str, ...]
    rows: Callable[[], np.ndarray]


def open_index(location: Location, *, of_any_shards: bool = False) -> Index:
    """Open the index of a location; the time does not depend on the number of samples.

    Args:
        of_any_shards: accept an index that was made for another list of shards.

    Raises:
        UsageError: there is none, it was made for other shards, or it is broken.
    """
    folder, base = index_path(location), base_of(location.shards)
    facts = read_facts(_without_image(location))
    try:
        if facts["shards"] != [pattern.removeprefix(base) for pattern in location.shards]:
            if not of_any_shards:
                raise ValueError("shards has changed since it was written")
            base = facts["base"]
        kind = row_type(len(facts["extensions"]))
        table = pq.read_table(folder / PARTS, use_threads=False)
        versions = pq.read_table(folder / SHARDS, columns=["version"], use_threads=False)
        table = table.append_column("version", versions["version"])
        first_row = np.concatenate([[0], np.cumsum(table["num_samples"].to_numpy())]).astype(np.int64)
        if (folder / ROWS).stat().st_size != first_row[-1] * kind.itemsize:
            raise ValueError(f"{ROWS} has another number of samples than {PARTS}")
        rows = np.memmap(folder / ROWS, kind, mode="r") if first_row[-1] else np.empty(0, kind)
        return Index(base, facts["extensions"], facts["notes"], first_row, rows, table)
    except (OSError, ValueError, KeyError, TypeError) as error:  # arrow's errors are among these
        raise UsageError(
            f"the index {folder} cannot be used: {error}; write it again with {command(location)}"
        ) from error


def shards_of(location: Location) -> Iterator[ShardRows]:
    """Return what a location's index holds of each shard, also of shards that the location no longer has.

    Raises:
        UsageError: as ``open_index``.
    """
    index = open_index(location, of_any_shards=True)
    table = index.table.append_column("notes", pq.read_table(index_path(location) / SHARDS)["notes"])
    names = np.array(list(index.extensions), object)
    bounds = zip(index.first_row[:-1].tolist(), index.first_row[1:].tolist(), strict=True)
    for bound, values in zip(bounds, table.to_pylist(), strict=True):
        rows = index.rows[slice(*bound)]
        used_U = np.flatnonzero(rows["members"][:, :, 0].any(axis=0))
        notes = Counter(json.loads(values["notes"]))
        yield ShardRows(
            _full(index.base, values["name"]),
            values["size"],
            values["version"],
            values["checksum"],
            notes,
            tuple(names[used_U]),
            partial(_chosen, rows, used_U),
        )


def write_index(location: Location, shards: Sequence[ShardRows]) -> None:
    """Write the index of a location.

    Raises:
        UsageError: the folder cannot be written.
    """
    base = base_of(location.shards)
    extensions = sorted({extension for shard in shards for extension in shard.extensions})
    images = (location.image,) if location.image else IMAGES
    is_image_E = np.array([extension in images for extension in extensions], bool)
    count_E = np.zeros(len(extensions), np.int64)
    notes: Counter[str] = Counter()
    parts, num_pairs = [], 0
    with writing(location) as folder:
        with (folder / ROWS).open("wb") as file:
            for shard in shards:
                rows = _widened(shard, extensions)
                has_NE = rows["members"][:, :, 0] > 0
                count_E += has_NE.sum(axis=0)
                notes.update(shard.notes)
                num_images_N = has_NE[:, is_image_E].sum(axis=1)
                num_pairs += int(((num_images_N > 0) & (has_NE.sum(axis=1) > num_images_N)).sum())
                notes[WITHOUT_IMAGE] += int((num_images_N == 0).sum())
                notes[SEVERAL_IMAGES] += int((num_images_N > 1).sum())
                parts.append(DataPart(shard.name.removeprefix(base), len(rows), shard.size, shard.checksum))
                file.write(rows.tobytes())
        if notes[WITHOUT_IMAGE] and not num_pairs and count_E[is_image_E].any():
            raise UsageError(APART)
        write_versions(folder, [shard.version for shard in shards], [shard.notes for shard in shards])
        write_facts(
            folder,
            _without_image(location),
            sum(part.num_samples for part in parts),
            parts,
            base=base,
            shards=[pattern.removeprefix(base) for pattern in location.shards],
            extensions=dict(zip(extensions, count_E.tolist(), strict=True)),
            notes=dict(+notes),  # without zeros
        )


def write_versions(folder: Path, versions: Sequence[str], notes: Sequence[Counter[str]]) -> None:
    """Write the versions and notes of the shards into the folder of an index."""
    columns = {"version": versions, "notes": [json.dumps(counts) for counts in notes]}
    pq.write_table(pa.table(columns), folder / SHARDS)


def index_bytes(location: Location) -> int:
    """Return the size of the index."""
    return sum(path.stat().st_size for path in Path(index_path(location)).iterdir())


def _full(base: str, name: str) -> str:
    return name if is_url(name) or name.startswith("/") else base + name


def _without_image(location: Location) -> Location:
    return dataclasses.replace(location, image=None)  # the index has all members, whichever is the image


def _widened(shard: ShardRows, extensions: Sequence[str]) -> np.ndarray:
    """Return the shard's rows with the columns of all extensions."""
    rows = shard.rows()
    members = np.zeros((len(rows), len(extensions), MEMBER), "<u4")
    members[:, [extensions.index(extension) for extension in shard.extensions]] = rows["members"]
    return _with_columns(rows, members)


def _chosen(rows: np.ndarray, used_U: np.ndarray) -> np.ndarray:
    """Return the rows with some of their extensions."""
    return _with_columns(rows, rows["members"][:, used_U])


def _with_columns(rows: np.ndarray, members: np.ndarray) -> np.ndarray:
    changed = np.empty(len(rows), row_type(members.shape[1]))
    changed["key"], changed["block"], changed["members"] = rows["key"], rows["block"], members
    return changed
