"""Index folders: written completely or not at all, and read only for the location that they were made for."""

import contextlib
import dataclasses
import json
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aimv2.base.errors import UsageError
from aimv2.base.files import beside, replace_folder, replacing
from aimv2.base.typed import as_typed
from aimv2.datasets.description import INDEX_SUFFIX, PLACES, SPLITS, SUFFIXES, Location
from aimv2.datasets.records import DataPart

FACTS = "index.json"
PARTS = "parts.parquet"
VERSION = 2


def index_path(location: Location) -> Path:
    """Return the folder of a location's index."""
    assert location.index, "descriptions that are read from a file have the path of an index"
    return Path(location.index)


def unfinished(location: Location) -> Location:
    """Return a location whose index has what an interrupted call has read for that of a location."""
    return dataclasses.replace(location, index=f"{index_path(location)}.unfinished")


def command(location: Location) -> str:
    """Return the command line that writes a location's index, quoted for the shell."""
    stem = index_path(location).name.removesuffix(INDEX_SUFFIX)
    names = [stem, *(stem.removesuffix(f"-{split}") for split in SPLITS)]
    files = (index_path(location).with_name(f"{name}{suffix}") for name in names for suffix in SUFFIXES)
    found = next((str(file) for file in files if file.is_file()), "FILE.yaml")
    return f"{as_typed('data')} index {shlex.quote(found)}"


@contextlib.contextmanager
def writing(location: Location) -> Iterator[Path]:
    """Yield an empty folder for the files of an index. It replaces the old index at the end, unless there is an error.

    Then the unfinished index of the location is deleted.

    Raises:
        UsageError: the folder cannot be written, or its path has files that are no index.
    """
    folder = index_path(location)
    if folder.exists() and not (folder / FACTS).is_file():
        raise UsageError(f"{folder} exists and is no index; set index to another path")
    partial = beside(folder)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise UsageError(
            f"the index {folder} cannot be written ({error.strerror}); set index to a path that can"
        ) from error
    try:
        yield partial
        try:
            replace_folder(partial, folder)
        except OSError as error:
            raise UsageError(f"the index {folder} cannot be replaced ({error.strerror})") from error
        shutil.rmtree(index_path(unfinished(location)), ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_facts(folder: Path, location: Location, num_samples: int, parts: Sequence[DataPart], **more: Any) -> None:
    """Write what an index was made for, and its parts."""
    write_parts(folder / PARTS, parts)
    facts = {"version": VERSION, "num_samples": num_samples, "location": _made_for(location), **more}
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n")


def read_facts(location: Location) -> dict[str, Any]:
    """Return the facts of a location's index.

    Raises:
        UsageError: there is no index, or it was made for another location or by another version.
    """
    folder = index_path(location)
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text())
    except FileNotFoundError:
        raise UsageError(f"there is no index at {folder}; write it with {command(location)}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"the index {folder} cannot be read ({error}); write it with {command(location)}") from error
    if facts.get("version") != VERSION:
        raise UsageError(f"the index {folder} is of another version; write it again with {command(location)}")
    for key, now in _made_for(location).items():
        before = facts["location"].get(key)
        # Data and index may move together, or the index alone.
        same = before == now or (
            isinstance(now, list) and isinstance(before, list) and any(map(str.__eq__, before, now))
        )
        if not same:
            raise UsageError(
                f"the index {folder} was made for another {key} than the description has now; "
                f"write it again with {command(location)}"
            )
    return facts


def write_parts(path: Path, parts: Sequence[DataPart]) -> None:
    """Write parts to a Parquet file, atomically."""
    columns = {name: [part[column] for part in parts] for column, name in enumerate(DataPart._fields)}
    schema = pa.schema({"name": pa.string(), "num_samples": pa.int64(), "size": pa.int64(), "checksum": pa.string()})
    with replacing(path) as partial:
        pq.write_table(pa.table(columns, schema=schema), partial)


def read_parts(path: Path) -> list[DataPart]:
    """Read what ``write_parts`` wrote.

    Raises:
        UsageError: the file is missing or broken.
    """
    try:
        return [DataPart(**row) for row in pq.read_table(path).to_pylist()]
    except (OSError, pa.ArrowException, TypeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error


def _made_for(location: Location) -> dict[str, str | bool | list[str] | None]:
    """Return what an index depends on; paths both absolute and relative to the index."""
    base = index_path(location).parent
    paths = {
        key: [os.path.abspath(value), os.path.relpath(value, base)]
        for key in (*PLACES, "table")
        if isinstance(value := getattr(location, key), str)
    }
    return {"image": location.image, "follow_links": location.follow_links, "table": None} | paths
