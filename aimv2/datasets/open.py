"""Index, open, check and identify what YAML files describe: sources of pairs and labelled sets.

UsageError is raised for a description or an index that cannot be used. Letters: B rows.
"""

import dataclasses
import hashlib
import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from aimv2.base.errors import BadSampleError, RunFailedError, UsageError
from aimv2.config.data_config import DataConfig, source_name
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import Sides
from aimv2.datasets import selection
from aimv2.datasets.description import (
    Location,
    SourceDescription,
    descriptions_of,
    read_description,
    read_source,
)
from aimv2.datasets.file_pairs import open_pairs
from aimv2.datasets.index import (
    FACTS,
    DataPart,
    OnProgress,
    Stamp,
    difference,
    index_path,
    read_parts,
    stamp_at,
    write_parts,
)
from aimv2.datasets.records import Records, write_index

FIRST = 100  # samples in which the fields of captions are looked for
RECORDED = "data.parquet"
CHECKED_SECONDS = 60  # for which files that were compared are not compared again


def prepare_location(
    location: Location, workers: int = 1, on_progress: OnProgress = lambda done, total: None
) -> tuple[int, list[str]]:
    """Write the index of a location, and the rows that meet its filters; of a source also those that are held out.

    Return the number of samples, and sentences about those that were left out or cannot be used.
    """
    writer = write_index(location, workers, on_progress)
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
    return writer.num_samples, [*writer.notes, *notes, *missing]


def _missing_fields(records: Records, selected: selection.Selection, description: SourceDescription) -> list[str]:
    """Return a warning for each field of texts that the first samples lack, because its name may be misspelt."""

    def has(row: int, name: str) -> bool:
        try:
            return records.field(row, name) is not None
        except BadSampleError:
            return True  # it is there, and broken

    first_B = range(min(FIRST, len(records))) if selected.kept_N is None else selected.kept_N[:FIRST].tolist()
    questions = [description.questions] if description.questions else []
    wanted = {"short": description.short, "dense": description.dense, "questions": questions}
    notes = []
    for key, name in ((key, name) for key, fields in wanted.items() for name in fields):
        if not any(has(row, name) for row in first_B):
            selection.require_field(records, key, name)
            notes.append(f"warning: {key}: none of the first {len(first_B)} samples has the field {name!r}")
    return notes


def open_records(
    location: Location, cache_dir: str | None = None, cache_bytes: int = 0
) -> tuple[Records, selection.Selection]:
    """Open all samples of a prepared location, and which of them are kept and held out."""
    records = Records(location, cache_dir, cache_bytes)
    return records, selection.read_selection(records, location)


def open_location(location: Location, cache_dir: str | None = None, cache_bytes: int = 0) -> Records:
    """Open the samples of a prepared location that meet its filters; the cache is for copies of remote shards."""
    records, selected = open_records(location, cache_dir, cache_bytes)
    return records if selected.kept_N is None else Records(location, cache_dir, cache_bytes, kept_N=selected.kept_N)


def copies_of(config: DataConfig) -> tuple[str, int]:
    """Return the folder of copies of remote shards, and its limit in bytes."""
    return str(Path(config.cache_dir) / "shards"), int(config.cache_gb * 1e9)


def open_source(source: str, config: DataConfig) -> Sides:
    """Return the training and held-out pairs of a source."""
    description = read_source(source)
    records, selected = open_records(description, *copies_of(config))
    return open_pairs(records, selected, description, config, source_name(source))


def check(path: str) -> None:
    """Compare the files of a source or labelled set with those that were indexed."""
    _check(path, _state(path), int(time.monotonic() / CHECKED_SECONDS))


def content_version(path: str) -> str:
    """Return a digest of the indexed content of a source or labelled set, and of what its description does to it."""
    return _content_version(path, _state(path))


def _state(path: str) -> tuple[Stamp, ...]:
    """Return stamps that change with a description and with the indexes of its places."""
    files = [
        index_path(place) / name for _, place in read_description(path).splits() for name in (FACTS, selection.RULES)
    ]
    return tuple(map(stamp_at, [Path(path).expanduser(), *files]))


# A plan resolves hundreds of runs; and between two runs of a worker, data may be edited, and indexed again.
@lru_cache(maxsize=64)
def _check(path: str, state: tuple[Stamp, ...], minute: int) -> None:
    for _, place in read_description(path).splits():
        open_location(place).check()


@lru_cache(maxsize=64)
def _content_version(path: str, state: tuple[Stamp, ...]) -> str:
    described = read_description(path)
    if isinstance(described, SourceDescription):
        return fingerprint(open_records(described)[0], described)
    parts = {
        split: [
            place.image,
            dataclasses.asdict(place)["filters"],
            *filter(None, [selection.excluded_digest(place)]),
            open_location(place).parts(),
        ]
        for split, place in described.splits()
    }
    return _sha256([described.label, parts])


def fingerprint(records: Records, description: SourceDescription) -> str:
    """Return a digest of a source's samples and of what its description does to them, wherever the files are."""
    described = dataclasses.asdict(description)
    matters = [described[key] for key in ("image", "filters", "held_out", "transforms")]
    captions = [list(described[key].items()) for key in ("short", "dense")]  # their order decides which one is drawn
    # Without these the digests of older runs stay.
    more = filter(None, [description.questions, selection.excluded_digest(description)])
    return _sha256([matters, captions, *more, records.parts()])


def _sha256(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def record_content(folder: Path, earlier: Iterable[Path], config: RunConfig, fingerprint: str) -> None:
    """Record the content of sources and labelled sets in the folder of an attempt.

    ``fingerprint`` is of the data as it is now, that in the config of the data that the run's name stands for. If they
    differ, the RunFailedError says how, compared with the newest of the ``earlier`` attempts, folders.
    """
    parts = parts_of(config)
    try:
        for path in descriptions_of(config):
            check(path)
    except UsageError as error:
        raise RunFailedError("data", str(error)) from error
    if config.data.fingerprint and fingerprint != config.data.fingerprint:
        recorded = next((path / RECORDED for path in earlier if (path / RECORDED).exists()), None)
        changed = "" if recorded is None else difference_of_parts(read_parts(recorded), parts)
        raise RunFailedError(
            "data",
            f"the data is not that of this run: {changed or 'a description or its content has changed since the plan'};"
            " restore it, or launch again to start a run on the new data",
        )
    write_parts(folder / RECORDED, parts)


def parts_of(config: RunConfig) -> list[DataPart]:
    """Return the parts of all sources and labelled sets in files, with the name of the source or set before each."""
    return [
        part._replace(name=f"{source_name(path)} {split}".strip() + f"/{part.name}")
        for path in descriptions_of(config)
        for split, location in read_description(path).splits()
        for part in open_location(location).parts()
    ]


def difference_of_parts(before: Sequence[DataPart], now: Sequence[DataPart]) -> str:
    """Return one sentence on the parts that are missing, new or changed; empty if there is no difference."""
    old, new = ({part.name: part for part in parts} for parts in (before, now))
    return difference(old, new) or ("the parts are in another order" if list(old) != list(new) else "")
