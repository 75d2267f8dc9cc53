"""Index and open described sources. Letters: B rows, N kept rows, M held-out rows."""

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any, NamedTuple

import numpy as np

from aimv2.base.errors import BadSampleError, UsageError
from aimv2.datasets import selection
from aimv2.datasets.description import Location, SourceDescription
from aimv2.datasets.index_folder import PARTS, index_path, read_parts
from aimv2.datasets.records import DataPart, Indexed, OnProgress, Records, RecordsReader
from aimv2.datasets.stamps import changes

FIRST = 100  # samples in which the fields of captions are looked for


class Opened(NamedTuple):
    """A source that can be read.

    Attributes:
        records: all samples.
        kept_N: rows that meet the filters and are not excluded, int64, ascending and memory-mapped; None if all are.
        held_out_M: indices into the kept rows of those that training does not show, int64, ascending, memory-mapped.
        description: what was opened.
    """

    records: Records
    kept_N: np.ndarray | None
    held_out_M: np.ndarray
    description: SourceDescription


def _nothing(done: int, total: int | None) -> None:
    pass


def prepare_location(
    location: Location, workers: int = 1, on_progress: OnProgress = _nothing, *, verify: bool = False
) -> Indexed:
    """Write the index of a location, and the rows that meet its filters; of a source also those that are held out.

    Args:
        workers, on_progress, verify: as in ``RecordsReader.build``.

    Raises:
        UsageError: the location cannot be read or has no usable sample.
        RunFailedError: it cannot be read any more, or a process was killed.
    """
    indexed = _reader(location).build(location, workers, on_progress, verify=verify)
    largest = max(part.size for part in read_parts(index_path(location) / PARTS))
    with tempfile.TemporaryDirectory() as cache_dir:  # of copies of remote shards, for one pass in order
        records = _reader(location)(location, cache_dir, (workers + 1) * largest)
        selected = selection.write_selection(records, location, workers, on_progress)
        try:
            missing = _missing_fields(records, selected, location) if isinstance(location, SourceDescription) else []
        except UsageError:
            selection.remove(location)  # so that it is not used
            raise
    num_kept = indexed.num_samples if selected.kept_N is None else len(selected.kept_N)
    notes = []
    if location.filters:
        notes.append(f"{num_kept:,} of {indexed.num_samples:,} samples meet the filters")
    if location.exclude:
        num_keys = len(set(selection.excluded_keys(location)))
        notes.append(f"{selected.num_excluded:,} samples are excluded, by {num_keys:,} keys")
    if selected.num_broken:
        notes.append(f"{selected.num_broken:,} samples have a broken field, which meets no filter and is not held out")
    if len(selected.held_out_M):
        notes.append(f"{len(selected.held_out_M):,} of {num_kept:,} samples are held out")
    return indexed._replace(notes=(*indexed.notes, *notes, *missing))


def open_location(location: Location, cache_dir: str | None = None, cache_bytes: int = 0) -> Records:
    """Open the samples of a location that meet its filters.

    Args:
        location: must have been prepared.
        cache_dir, cache_bytes: where to save copies of remote shards, and how much at most.

    Raises:
        UsageError: there is no index, or it does not fit the location or its description.
    """
    records = _reader(location)(location, cache_dir, cache_bytes)
    kept_N = selection.read_selection(records, location).kept_N
    return records if kept_N is None else KeptRecords(records, kept_N)


def open_source(description: SourceDescription, cache_dir: str | None = None, cache_bytes: int = 0) -> Opened:
    """Open a source; arguments and errors as above."""
    records = _reader(description)(description, cache_dir, cache_bytes)
    selected = selection.read_selection(records, description)
    return Opened(records, selected.kept_N, selected.held_out_M, description)


def fingerprint(opened: Opened) -> str:
    """Return a digest of a source's samples and of what its description does to them, wherever the files are."""
    described = dataclasses.asdict(opened.description)
    matters = [described[key] for key in ("image", "filters", "held_out", "transforms")]
    captions = [list(described[key].items()) for key in ("short", "dense")]  # their order decides which one is drawn
    # Without these the digests of older runs stay.
    questions = [described["questions"]] if described["questions"] else []
    excluded = [digest] if (digest := selection.excluded_digest(opened.description)) else []
    content = json.dumps([matters, captions, *questions, *excluded, opened.records.parts()], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def difference(old_parts: Sequence[DataPart], new_parts: Sequence[DataPart]) -> str:
    """Return one sentence on the parts that are missing, new or changed; empty if there is no difference."""
    old, new = ({part.name: part for part in parts} for parts in (old_parts, new_parts))
    kinds = {
        "missing": [name for name in old if name not in new],
        "new": [name for name in new if name not in old],
        "changed": [name for name in old if name in new and old[name] != new[name]],
    }
    return changes(kinds) or ("the parts are in another order" if list(old) != list(new) else "")


class KeptRecords(Records):
    """The rows of other records that meet the filters."""

    def __init__(self, records: Records, kept_N: np.ndarray) -> None:
        self._records, self._kept_N = records, kept_N
        self.block_rows, self.concurrency = records.block_rows, records.concurrency

    def __len__(self) -> int:
        return len(self._kept_N)

    def key(self, row: int) -> str:
        return self._records.key(int(self._kept_N[row]))

    def key_hashes(self, row_B: np.ndarray) -> np.ndarray:
        return self._records.key_hashes(self._kept_N[row_B])

    def image(self, row: int) -> bytes:
        return self._records.image(int(self._kept_N[row]))

    def field(self, row: int, name: str) -> Any:
        return self._records.field(int(self._kept_N[row]), name)

    @property
    def retries(self) -> int:
        return self._records.retries

    def fields(self) -> list[str]:
        return self._records.fields()

    def check(self, *, every_file: bool = False) -> None:
        self._records.check(every_file=every_file)

    def parts(self) -> list[DataPart]:
        return self._records.parts()


def _missing_fields(records: Records, selected: selection.Selection, description: SourceDescription) -> list[str]:
    """Return a warning for each field of texts that the first samples lack, because its name may be misspelt.

    Raises:
        UsageError: no sample has such a field.
    """
    first_B = range(min(FIRST, len(records))) if selected.kept_N is None else selected.kept_N[:FIRST].tolist()
    questions = [description.questions] if description.questions else []
    wanted = {"short": description.short, "dense": description.dense, "questions": questions}
    notes = []
    for key, name in ((key, name) for key, fields in wanted.items() for name in fields):
        if not any(_has(records, row, name) for row in first_B):
            selection.require_field(records, key, name)
            notes.append(f"warning: {key}: none of the first {len(first_B)} samples has the field {name!r}")
    return notes


def _has(records: Records, row: int, name: str) -> bool:
    try:
        return records.field(row, name) is not None
    except BadSampleError:
        return True  # it is there, and broken


def _reader(location: Location) -> RecordsReader:
    reader: RecordsReader = resolve_name(location.reader)
    return reader
