"""The index of shards: where every sample is. Letters: N samples, S shards, E extensions.

An index is a folder with three files. ``index.json`` names the other two, so that replacing it replaces the index at
once: ``shards.*.parquet``, a row per shard, and ``rows.*.bin``, a ``row_type(E)`` per sample in the order of the shards.
"""

import json
import os
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aimv2.data.files.shards.scan import row_type
from aimv2.errors import UsageError
from aimv2.runs.files import sync, write_json

VERSION = 1
INDEX = "index.json"
UNFINISHED = "unfinished.json"  # an index of the shards that an interrupted scan has read
FILE = re.compile(r"(rows\.[0-9a-f]{12}\.bin|shards\.[0-9a-f]{12}\.parquet)")
IMAGES = ("jpg", "jpeg", "png", "webp")
WITHOUT_IMAGE = "odd: sample without an image"
COLUMNS = ("name", "size", "version", "checksum", "num_samples", "notes")


@dataclass(frozen=True)
class Index:
    """An open index.

    Attributes:
        patterns: of the shards, as in the description.
        fingerprint: of names, sizes and checksums of the shards.
        extensions: with the number of members of each.
        notes: numbers of ignored members and odd samples, by reason.
        first_row: int64 [S + 1]; shard s has the rows ``first_row[s]`` to ``first_row[s + 1] - 1``.
        rows: ``row_type(E)`` [N], mapped into memory.
    """

    folder: Path
    patterns: tuple[str, ...]
    fingerprint: str
    extensions: dict[str, int]
    notes: Counter[str]
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

    def value(self, column: str, shard: int) -> Any:
        """Return ``name``, ``size``, ``version``, ``checksum`` or ``notes`` of a shard."""
        return self.table[column][shard].as_py()


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


def open_index(folder: Path, name: str = INDEX) -> Index:
    """Open an index; the time does not depend on the number of samples.

    Raises:
        UsageError: there is none, it is broken, or another version wrote it.
    """
    path = folder / name
    if not path.exists():
        raise UsageError(f"{folder} has no index yet; write it with: python -m aimv2 data index FILE.yaml")
    try:
        described = json.loads(path.read_text())
        if described["version"] != VERSION:
            raise ValueError(f"its version is {described['version']}, and {VERSION} is needed")
        rows_file, shards_file = _files(folder, described)
        table = pq.read_table(shards_file, use_threads=False)
        first_row = np.concatenate([[0], np.cumsum(table["num_samples"].to_numpy())]).astype(np.int64)
        kind = row_type(len(described["extensions"]))
        if rows_file.stat().st_size != first_row[-1] * kind.itemsize:
            raise ValueError(f"{rows_file.name} has another number of samples than {shards_file.name}")
        rows = np.memmap(rows_file, kind, mode="r") if first_row[-1] else np.empty(0, kind)
        return Index(
            folder=folder,
            patterns=tuple(described["shards"]),
            fingerprint=described["fingerprint"],
            extensions=described["extensions"],
            notes=Counter(described["notes"]),
            first_row=first_row,
            rows=rows,
            table=table,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__} {error}" if isinstance(error, KeyError | TypeError) else str(error)
        raise UsageError(
            f"the index {path} cannot be used ({reason}); write it again with: python -m aimv2 data index FILE.yaml"
        ) from error


def shards_of(index: Index) -> Iterator[ShardRows]:
    """Return what the index holds of each shard."""
    names = np.array(list(index.extensions), object)
    columns = (index.table[name].to_pylist() for name in COLUMNS)
    bounds = zip(index.first_row[:-1].tolist(), index.first_row[1:].tolist(), strict=True)
    for (first, end), name, size, version, checksum, _, notes in zip(bounds, *columns, strict=True):
        used_E = index.rows["members"][first:end, :, 0].any(axis=0)

        def rows(first: int = first, end: int = end, used_E: np.ndarray = used_E) -> np.ndarray:
            kept = np.empty(end - first, row_type(int(used_E.sum())))
            for field in ("key", "block"):
                kept[field] = index.rows[field][first:end]
            kept["members"] = index.rows["members"][first:end][:, used_E]
            return kept

        yield ShardRows(name, size, version, checksum, Counter(json.loads(notes)), tuple(names[used_E]), rows)


def write_index(
    folder: Path, patterns: Sequence[str], shards: Sequence[ShardRows], *, image: str | None, name: str = INDEX
) -> Index:
    """Write an index, replace the one of this name in the folder, and open it.

    Args:
        image: extension of the image; None for the usual ones.
    """
    extensions = sorted({extension for shard in shards for extension in shard.extensions})
    notes: Counter[str] = Counter()
    count_E = np.zeros(len(extensions), np.int64)
    is_image_E = np.array([extension in ((image,) if image else IMAGES) for extension in extensions], bool)
    lengths = []
    partial = folder / f".rows.{uuid.uuid4().hex}"
    try:
        with partial.open("wb") as file:
            for shard in shards:
                rows = _in_columns(shard, extensions)
                has_NE = rows["members"][:, :, 0] > 0
                count_E += has_NE.sum(axis=0)
                notes.update(shard.notes)
                notes[WITHOUT_IMAGE] += int((~has_NE[:, is_image_E].any(axis=1)).sum())
                lengths.append(len(rows))
                file.write(rows.tobytes())
            file.flush()
            os.fsync(file.fileno())
        described = {
            "version": VERSION,
            "shards": list(patterns),
            "fingerprint": _fingerprint(shards),
            "extensions": dict(zip(extensions, count_E.tolist(), strict=True)),
            "notes": dict(+notes),  # without zeros
        }
        rows_file, shards_file = _named(described["fingerprint"])
        described |= {"rows_file": rows_file, "shards_file": shards_file}
        before = _files_of(folder, name)
        partial.replace(folder / rows_file)
    finally:
        partial.unlink(missing_ok=True)
    _write_table(folder / shards_file, shards, lengths)
    sync(folder)
    write_json(folder / name, described)
    for path in before - _files_of(folder, name):
        path.unlink(missing_ok=True)
    return open_index(folder, name)


def remove_unfinished(folder: Path) -> None:
    """Delete the index of an interrupted scan, if there is one."""
    files = _files_of(folder, UNFINISHED) - _files_of(folder, INDEX)
    for path in (folder / UNFINISHED, *files):
        path.unlink(missing_ok=True)


def _in_columns(shard: ShardRows, extensions: Sequence[str]) -> np.ndarray:
    """Return the shard's rows with the columns of these extensions."""
    narrow = shard.rows()
    wide = np.zeros(len(narrow), row_type(len(extensions)))
    for field in ("key", "block"):
        wide[field] = narrow[field]
    wide["members"][:, [extensions.index(extension) for extension in shard.extensions]] = narrow["members"]
    return wide


def _write_table(path: Path, shards: Sequence[ShardRows], lengths: list[int]) -> None:
    table = pa.table(
        {
            "name": pa.array([shard.name for shard in shards], pa.string()),
            "size": pa.array([shard.size for shard in shards], pa.int64()),
            "version": pa.array([shard.version for shard in shards], pa.string()),
            "checksum": pa.array([shard.checksum for shard in shards], pa.string()),
            "num_samples": pa.array(lengths, pa.int64()),
            "notes": pa.array([json.dumps(shard.notes) for shard in shards], pa.string()),
        }
    )
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        pq.write_table(table, partial)
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _fingerprint(shards: Sequence[ShardRows]) -> str:
    digest = sha256(f"index {VERSION}".encode())
    for shard in shards:
        digest.update(f"\n{shard.name} {shard.size} {shard.checksum}".encode())
    return digest.hexdigest()


def _named(fingerprint: str) -> tuple[str, str]:
    # A new name at every writing: processes that have the old files open are not disturbed.
    part = sha256(f"{fingerprint} {uuid.uuid4().hex}".encode()).hexdigest()[:12]
    return f"rows.{part}.bin", f"shards.{part}.parquet"


def _files(folder: Path, described: dict[str, Any]) -> tuple[Path, Path]:
    names = described["rows_file"], described["shards_file"]
    if not all(isinstance(name, str) and FILE.fullmatch(name) for name in names):
        raise ValueError("it names files that are not of an index")
    return folder / names[0], folder / names[1]


def _files_of(folder: Path, name: str) -> set[Path]:
    """Return the files that an index names; none if it cannot be read."""
    try:
        return set(_files(folder, json.loads((folder / name).read_text())))
    except (OSError, ValueError, KeyError, TypeError):
        return set()
