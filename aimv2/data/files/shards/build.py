"""Scans of all shards of a location, in parallel processes, to an index."""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import BinaryIO

import numpy as np

from aimv2.data.files.description import Location
from aimv2.data.files.shards.index import INDEX, UNFINISHED, Index, ShardRows, open_index, remove_unfinished, shards_of, write_index
from aimv2.data.files.shards.patterns import expand
from aimv2.data.files.shards.scan import Scan, row_type, scan
from aimv2.errors import RunFailedError, UsageError

MAX_ERRORS = 10  # broken shards after which a scan stops
IN_FLIGHT = 4  # shards per worker that are submitted at a time

Task = tuple[str, tuple[int, str] | None]
Outcome = Scan | UsageError | None


def build_index(
    location: Location, workers: int, on_progress: Callable[[int, int, int], object] = lambda *_: None
) -> Index:
    """Write the index of a location's shards. Shards whose size and time have not changed are not read again.

    If the scan fails or is interrupted, an existing index stays as it is, and the next call reads only the rest.

    Args:
        workers: processes that scan shards.
        on_progress: called after each shard with the number of shards done, the number of all, and the bytes read.

    Raises:
        UsageError: shards are missing or broken; at most ten are named.
        RunFailedError: a process was killed.
    """
    assert location.index is not None, "a location that was read from a file has the folder of its index"
    folder = Path(location.index)
    names = expand(location.shards)
    folder.mkdir(parents=True, exist_ok=True)
    known = _known(folder)
    done: list[ShardRows] = []
    errors: list[UsageError] = []
    num_bytes = 0
    tasks = [(name, (known[name].size, known[name].version) if name in known else None) for name in names]
    with tempfile.TemporaryFile(dir=folder) as spool:
        try:
            for name, outcome in zip(names, _scans(tasks, workers), strict=True):
                if isinstance(outcome, UsageError):
                    errors.append(outcome)
                    if len(errors) == MAX_ERRORS:
                        break
                else:
                    done.append(known[name] if outcome is None else _spooled(spool, name, outcome))
                    num_bytes += outcome.size if outcome else 0
                on_progress(len(done), len(names), num_bytes)
        except BaseException:
            _save_unfinished(location, done, num_bytes)
            raise
        if errors:
            _save_unfinished(location, done, num_bytes)
            raise _summary(errors)
        index = write_index(folder, location.shards, done, image=location.image)
    remove_unfinished(folder)
    return index


def _known(folder: Path) -> dict[str, ShardRows]:
    """Return what earlier scans found, by the name of the shard."""
    found: dict[str, ShardRows] = {}
    for name in (INDEX, UNFINISHED):
        if (folder / name).exists():
            try:
                found |= {shard.name: shard for shard in shards_of(open_index(folder, name))}
            except UsageError:
                continue  # a broken index, or one of another version, is replaced
    return found


def _save_unfinished(location: Location, done: list[ShardRows], num_bytes: int) -> None:
    if num_bytes:
        write_index(Path(str(location.index)), location.shards, done, image=location.image, name=UNFINISHED)


def _summary(errors: list[UsageError]) -> UsageError:
    if len(errors) == 1:
        return errors[0]
    return UsageError(f"{len(errors)} shards cannot be indexed: {'; '.join(map(str, errors))}")


def _spooled(spool: BinaryIO, name: str, found: Scan) -> ShardRows:
    """Write the rows to the spool file, so that memory does not grow with the number of samples."""
    offset = spool.seek(0, os.SEEK_END)
    kind, length = row_type(len(found.extensions)), len(found.rows)
    spool.write(found.rows.tobytes())

    def rows() -> np.ndarray:
        spool.seek(offset)
        return np.frombuffer(spool.read(length * kind.itemsize), kind)

    return ShardRows(name, found.size, found.version, found.checksum, found.notes, found.extensions, rows)


def _scans(tasks: Iterable[Task], workers: int) -> Iterator[Outcome]:
    """Return the scans of shards, in order."""
    if workers == 1:
        yield from map(_attempt, tasks)
        return
    # Spawned, because rich draws progress in a thread, and a process with threads must not be forked.
    context = multiprocessing.get_context("spawn")
    waiting: deque[Future[Outcome]] = deque()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent) as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(_attempt, task))
                if len(waiting) == IN_FLIGHT * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            message = "a process that scans shards was killed, most likely for lack of memory; use fewer workers"
            raise RunFailedError("node", message) from error
        finally:
            for future in waiting:
                future.cancel()


def _attempt(task: Task) -> Outcome:
    try:
        return scan(*task)
    except UsageError as error:
        return error


def _follow_parent() -> None:
    """Leave interrupts to the parent, and end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "only processes of the pool call this"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
