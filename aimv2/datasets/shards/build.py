"""Scans of all shards of a location, in parallel processes, to an index."""

import os
import tempfile
import time
from typing import BinaryIO

import numpy as np

from aimv2.base.errors import UsageError
from aimv2.base.files import writable_folder
from aimv2.base.processes import in_processes
from aimv2.datasets.description import Location
from aimv2.datasets.index_folder import index_path, unfinished
from aimv2.datasets.records import Indexed, OnProgress
from aimv2.datasets.shards.index import ShardRows, index_bytes, open_index, shards_of, write_index
from aimv2.datasets.shards.patterns import expand
from aimv2.datasets.shards.remote import Options
from aimv2.datasets.shards.scan import Scan, UnreachableError, row_type, scan

MAX_ERRORS = 10  # broken shards after which a scan stops

Task = tuple[str, tuple[int, str] | None, Options]
Outcome = Scan | UsageError | None


def build_index(location: Location, workers: int, on_progress: OnProgress, *, verify: bool = False) -> Indexed:
    """Write the index of a location's shards. Shards whose size and times have not changed are not read again.

    If the scan fails or is interrupted, an existing index stays as it is, and the next call reads only the rest.

    Args:
        workers: processes that scan shards.
        on_progress: called after each shard; the number of all samples is estimated from the shards so far.
        verify: read all shards again.

    Raises:
        UsageError: shards are missing or broken; at most ten are named.
        RunFailedError: a process was killed.
    """
    options = location.storage_options
    names, known = expand(location.shards, options=options), {} if verify else _known(location)
    tasks = [(name, (known[name].size, known[name].version) if name in known else None, options) for name in names]
    done: list[ShardRows] = []
    errors: list[UsageError] = []
    num_bytes = num_samples = num_read = 0
    started = time.monotonic()
    folder = writable_folder(str(index_path(location).parent), "index")
    with tempfile.TemporaryFile(dir=folder) as spool:
        try:
            for name, outcome in zip(names, in_processes(_attempt, tasks, workers, "scans shards"), strict=True):
                if isinstance(outcome, UnreachableError):
                    raise outcome
                if isinstance(outcome, UsageError):
                    errors.append(outcome)
                    if len(errors) == MAX_ERRORS:
                        break
                    continue
                done.append(_spooled(spool, name, outcome) if outcome else known[name])
                num_samples += len(outcome.rows) if outcome else len(known[name].rows())
                num_bytes += outcome.size if outcome else 0
                num_read += bool(outcome)
                on_progress(num_samples, round(num_samples / len(done) * len(names)))
            if errors:
                raise _summary(errors)
        except BaseException:
            if num_read:
                write_index(unfinished(location), done)
            raise
        seconds = time.monotonic() - started
        if not num_samples:
            raise UsageError(f"shards: there are no samples in {', '.join(location.shards)}")
        write_index(location, done)
    return Indexed(num_samples, _notes(location, num_read, num_bytes, seconds))


def _known(location: Location) -> dict[str, ShardRows]:
    """Return what earlier scans found, by the name of the shard."""
    found: dict[str, ShardRows] = {}
    for place in (location, unfinished(location)):
        try:
            found |= {shard.name: shard for shard in shards_of(place)}
        except UsageError:
            continue  # there is none, or it is broken and will be replaced
    return found


def _notes(location: Location, num_read: int, num_bytes: int, seconds: float) -> tuple[str, ...]:
    index = open_index(location)
    members = ", ".join(f"{name} {count:,}" for name, count in index.extensions.items())
    num_samples = int(index.first_row[-1])
    size = index_bytes(location)
    sentences = [
        f"shards: {index.num_shards:,}, {index.num_bytes / 1e6:,.1f} MB; members: {members}",
        f"read {num_read:,} shards in {seconds:.1f} s ({num_bytes / 1e6 / max(seconds, 1e-9):,.0f} MB/s)",
        f"index: {size / 1e6:,.1f} MB, {size / num_samples:.1f} bytes per sample",
    ]
    if unchanged := index.num_shards - num_read:
        sentences.append(f"not read again, because size and times have not changed: {unchanged:,} shards")
    return (*sentences, *(f"{what}: {count:,}" for what, count in index.notes.items()))


def _summary(errors: list[UsageError]) -> UsageError:
    if len(errors) == 1:
        return errors[0]
    count = f"at least {len(errors)}" if len(errors) == MAX_ERRORS else str(len(errors))
    return UsageError(f"{count} shards cannot be indexed: {'; '.join(map(str, errors))}")


def _spooled(spool: BinaryIO, name: str, found: Scan) -> ShardRows:
    """Write the rows to the spool file, so that memory does not grow with the number of samples."""
    offset = spool.seek(0, os.SEEK_END)
    kind, length = row_type(len(found.extensions)), len(found.rows)
    spool.write(found.rows.tobytes())

    def rows() -> np.ndarray:
        spool.seek(offset)
        return np.frombuffer(spool.read(length * kind.itemsize), kind)

    return ShardRows(name, found.size, found.version, found.checksum, found.notes, found.extensions, rows)


def _attempt(task: Task) -> Outcome:
    try:
        return scan(*task)
    except UsageError as error:
        return error
