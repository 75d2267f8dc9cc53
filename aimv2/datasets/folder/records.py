"""Records of a folder of images, with or without a table. Letters: B rows."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from aimv2.base.errors import BadSampleError, RunFailedError, UsageError
from aimv2.datasets.description import Location
from aimv2.datasets.folder.index import COLUMN, SAMPLES, build, is_within
from aimv2.datasets.folder.tables import JSON_ROW
from aimv2.datasets.index_folder import PARTS, command, index_path, read_facts, read_parts
from aimv2.datasets.records import MAX_BLOCK_ROWS, DataPart, Records, json_of, text_of, value_at
from aimv2.datasets.shards.remote import Patience


class FolderRecords(Records):
    """Images in a folder.

    A field is a column of the table; ``folder``, the name of the folder that contains the image; or a file beside the
    image with the same stem: ``txt`` is ``NAME.txt``, and ``json.meta.width`` the key ``width`` of ``meta`` in
    ``NAME.json``. Blocks are large, because the order of paths is often that of classes.
    """

    build = staticmethod(build)

    def __init__(self, location: Location, cache_dir: str | None = None, cache_bytes: int = 0) -> None:
        """Open the index (``RecordsReader``); nothing is copied."""
        read_facts(location)
        self._location = location
        self._folder = Path(location.folder or "")
        self._root = os.path.realpath(self._folder)
        if not self._folder.is_dir():
            raise UsageError(f"folder: {self._folder} is no folder that can be read")
        _check_table(location, self.parts())
        samples = pa.ipc.open_file(pa.memory_map(str(index_path(location) / SAMPLES))).read_all()
        self._key, self._path, self._size, self._hash = (samples[name] for name in ("key", "path", "size", "hash"))
        self._columns = {
            name.removeprefix(COLUMN): samples[name] for name in samples.column_names if name.startswith(COLUMN)
        }
        self._patience = Patience()
        self.block_rows = min(len(self), MAX_BLOCK_ROWS)

    def __reduce__(self) -> tuple[type["FolderRecords"], tuple[Location]]:
        return type(self), (self._location,)

    @property
    def retries(self) -> int:
        """Reads that were repeated after a transient error, in this process."""
        return self._patience.retries

    def __len__(self) -> int:
        return len(self._key)

    def key(self, row: int) -> str:
        return str(self._key[row])

    def key_hashes(self, row_B: np.ndarray) -> np.ndarray:
        return np.asarray(self._hash.take(pa.array(row_B)))

    def image(self, row: int) -> bytes:
        path = str(self._path[row])
        content = self._read(path)
        if content is None:
            raise BadSampleError("missing image", path)
        if len(content) != (size := self._size[row].as_py()):
            raise RunFailedError(
                "data",
                f"{self._folder / path} has changed since it was indexed ({len(content)} bytes, not {size}); "
                f"run {command(self._location)}",
            )
        return content

    def field(self, row: int, name: str) -> Any:
        if name in self._columns:
            return self._columns[name][row].as_py()
        if JSON_ROW in self._columns:
            values = json.loads(self._columns[JSON_ROW][row].as_py())
            if name in values:
                return values[name]
        path = str(self._path[row])
        parent, _, file = path.rpartition("/")
        if name == "folder":
            return parent.rpartition("/")[2] or None
        words = name.split(".")
        end = words.index("json") + 1 if "json" in words else len(words)
        member = ".".join(words[:end])
        content = None if "/" in name else self._read(f"{path.removesuffix(file)}{file.rpartition('.')[0]}.{member}")
        if content is None:
            return None
        if words[end:]:
            return value_at(json_of(content, lambda: f"beside {path}"), words[end:])
        return text_of(content, lambda: f"{path}: {member}")

    def parts(self) -> list[DataPart]:
        return read_parts(index_path(self._location) / PARTS)

    def _read(self, path: str) -> bytes | None:
        """Return the content of a file in the folder, None if it does not exist."""
        file = os.path.join(self._root, path)
        try:
            return self._patience.read(lambda: self._read_once(file))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            if self._folder.is_dir():
                return None
            raise RunFailedError("data", f"the folder {self._folder} has gone") from None
        except OSError as error:
            raise RunFailedError("data", f"{file} cannot be read: {error.strerror}") from error

    def _read_once(self, file: str) -> bytes:
        if not is_within(self._root, file):
            raise BadSampleError("unsafe member", f"{file} is a link that leads out of {self._folder}")
        with open(file, "rb") as opened:
            return opened.read()


def _check_table(location: Location, parts: list[DataPart]) -> None:
    """Raise a UsageError if the table is missing or has another size than when it was indexed."""
    if not location.table:
        return
    table = Path(location.table)
    if not table.is_file():
        raise UsageError(f"table: {table} is no file that can be read")
    if table.stat().st_size != parts[0].size:
        raise UsageError(f"{table} has changed since it was indexed; run {command(location)}")
