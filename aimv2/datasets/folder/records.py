"""Records of a folder of images, with or without a table. Letters: B rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from aimv2.base.errors import BadSampleError, UsageError
from aimv2.datasets.description import Location, SourceDescription
from aimv2.datasets.folder.files import IndexedFolder
from aimv2.datasets.folder.index import COLUMN, MEMBERS, SAMPLES, TABLE, build, table_stamp, walk_of
from aimv2.datasets.folder.tables import JSON_ROW
from aimv2.datasets.folder.walk import MAX_MEMBERS
from aimv2.datasets.index_folder import PARTS, command, index_path, read_facts, read_parts
from aimv2.datasets.records import MAX_BLOCK_ROWS, DataPart, Records, json_of, reopened, text_of, value_at
from aimv2.datasets.stamps import Stamp


class FolderRecords(Records):
    """Images in a folder.

    A field is a column of the table; ``folder``, the name of the folder that contains the image; or a file beside the
    image with the same stem: ``txt`` is ``NAME.txt``, and ``json.meta.width`` the key ``width`` of ``meta`` in
    ``NAME.json``. Blocks are large, because the order of paths is often that of classes.
    """

    build = staticmethod(build)

    def __init__(self, location: Location, cache_dir: str | None = None, cache_bytes: int = 0) -> None:
        """Open the index (``RecordsReader``); nothing is copied."""
        facts = read_facts(location)
        self._location = location
        self._folder = Path(location.folder or "")
        if not self._folder.is_dir():
            raise UsageError(f"folder: {self._folder} is no folder that can be read")
        if location.table and not table_stamp(Path(location.table)).is_same(Stamp(*facts[TABLE])):
            raise UsageError(f"{location.table} has changed since it was indexed; run {command(location)}")
        self._files = IndexedFolder(
            self._folder, index_path(location), command(location), follow_links=location.follow_links
        )
        samples = pa.ipc.open_file(pa.memory_map(str(index_path(location) / SAMPLES))).read_all()
        self._key, self._path, self._hash = (samples[name] for name in ("key", "path", "hash"))
        self._columns = {
            name.removeprefix(COLUMN): samples[name] for name in samples.column_names if name.startswith(COLUMN)
        }
        self._members: list[str] = facts[MEMBERS]
        self._parts = read_parts(index_path(location) / PARTS)
        self.block_rows = min(len(self), MAX_BLOCK_ROWS)

    def __reduce__(self) -> tuple[Any, ...]:
        return reopened, (type(self), self._location, {}, self.digest())

    @property
    def retries(self) -> int:
        """Reads that were repeated after a transient error, in this process."""
        return self._files.retries

    def __len__(self) -> int:
        return len(self._key)

    def key(self, row: int) -> str:
        return str(self._key[row])

    def key_hashes(self, row_B: np.ndarray) -> np.ndarray:
        return np.asarray(self._hash.take(pa.array(row_B)))

    def image(self, row: int) -> bytes:
        path = str(self._path[row])
        content = self._files.read(path)
        if content is None:
            raise BadSampleError("missing image", path)
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
        member, keys = _split(name)
        beside = f"{path.removesuffix(file)}{file.rpartition('.')[0]}.{member}"
        content = None if "/" in name else self._files.read(beside)
        if content is None:
            return None
        if keys:
            return value_at(json_of(content, lambda: f"beside {path}"), keys)
        return text_of(content, lambda: f"{path}: {member}")

    def parts(self) -> list[DataPart]:
        return self._parts

    def fields(self) -> list[str]:
        columns = [name for name in self._columns if name != JSON_ROW]
        if JSON_ROW in self._columns:
            rows = (row for chunk in self._columns[JSON_ROW].chunks for row in chunk.to_pylist())
            columns += dict.fromkeys(key for row in rows for key in json.loads(row))
        return [*columns, "folder", *self._members]

    def check(self, *, every_file: bool = False) -> None:
        paths = self._path.to_pylist() if self._location.table else None
        # What selected the samples is not read again.
        known = None if every_file or self._is_selected_by_files() else self._files.folder_stamps
        self._files.check(walk_of(self._location, self._files.root, paths, known))

    def _is_selected_by_files(self) -> bool:
        """True if files beside images may say which samples are kept or held out."""
        fields = set(self._location.filters)
        if isinstance(self._location, SourceDescription) and (rule := self._location.held_out) and rule.field:
            fields.add(rule.field)
        has_all = len(self._members) < MAX_MEMBERS
        return any(_split(field)[0] in self._members or not has_all for field in fields)


def _split(field: str) -> tuple[str, list[str]]:
    """Return the end of the name of the file that has a field, and the keys within that if it is JSON."""
    words = field.split(".")
    end = words.index("json") + 1 if "json" in words else len(words)
    return ".".join(words[:end]), words[end:]
