"""Index and open described sources. Letters: B rows, N kept rows, M held-out rows."""

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aimv2.base.errors import BadSampleError, UsageError
from aimv2.datasets import selection
from aimv2.datasets.description import Location, SourceDescription
from aimv2.datasets.files import changes, stamp_at
from aimv2.datasets.index import DataPart, OnProgress, writing
from aimv2.datasets.records import LAYOUTS, Records

FIRST = 100  # samples in which the fields of captions are looked for


class Indexed(NamedTuple):
    """An index that was written."""

    num_samples: int
    notes: tuple[str, ...]  # sentences about samples that were left out or cannot be used


class Opened(NamedTuple):
    """A source that can be read: all its records, and which of them are kept and held out (``selection.Selection``)."""

    records: Records
    kept_N: np.ndarray | None
    held_out_M: np.ndarray
    description: SourceDescription


def _nothing(done: int, total: int | None) -> None:
    pass


def prepare_location(location: Location, workers: int = 1, on_progress: OnProgress = _nothing) -> Indexed:
    """Write the index of a location, and the rows that meet its filters; of a source also those that are held out."""
    layout = LAYOUTS[location.place]
    with writing(location) as writer:
        writer.facts["tables"] = list(map(stamp_at, layout.tables(location)))
        layout.write(location, writer, workers, on_progress)
    largest = max(part.size for part in writer.parts)
    with tempfile.TemporaryDirectory() as cache_dir:  # of copies of remote shards, for one pass in order
        records = Records(location, cache_dir, (workers + 1) * largest)
        selected = selection.write_selection(records, location, workers, on_progress)
        try:
            missing = _missing_fields(records, selected, location) if isinstance(location, SourceDescription) else []
        except UsageError:
            selection.remove(location)  # so that it is not used
            raise
    num_kept = writer.num_samples if selected.kept_N is None else len(selected.kept_N)
    notes = []
    if location.filters:
        notes.append(f"{num_kept:,} of {writer.num_samples:,} samples meet the filters")
    if location.exclude:
        num_keys = len(set(selection.excluded_keys(location)))
        notes.append(f"{selected.num_excluded:,} samples are excluded, by {num_keys:,} keys")
    if selected.num_broken:
        notes.append(f"{selected.num_broken:,} samples have a broken field, which meets no filter and is not held out")
    if len(selected.held_out_M):
        notes.append(f"{len(selected.held_out_M):,} of {num_kept:,} samples are held out")
    return Indexed(writer.num_samples, (*writer.notes, *notes, *missing))


def open_location(location: Location, cache_dir: str | None = None, cache_bytes: int = 0) -> Records:
    """Open the samples of a prepared location that meet its filters; the cache is for copies of remote shards."""
    records = Records(location, cache_dir, cache_bytes)
    kept_N = selection.read_selection(records, location).kept_N
    return records if kept_N is None else Records(location, cache_dir, cache_bytes, kept_N=kept_N)


def open_source(description: SourceDescription, cache_dir: str | None = None, cache_bytes: int = 0) -> Opened:
    """Open a prepared source."""
    records = Records(description, cache_dir, cache_bytes)
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


def _missing_fields(records: Records, selected: selection.Selection, description: SourceDescription) -> list[str]:
    """Return a warning for each field of texts that the first samples lack, because its name may be misspelt."""
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
