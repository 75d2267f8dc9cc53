"""Metric rows of an attempt: a JSON line per step, and the same as TensorBoard events."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROWS = "metrics.jsonl"
BLOCK = 4096  # bytes; at least twice the longest row
# Columns that are no results: they depend on the machine and its load. Older runs have ``gemm_share``.
OF_MACHINE = ("seconds", "images_per_second", "step_cpu_seconds", "gemm_share", "memory_bytes")

EVENTS = "tensorboard"  # a folder of an attempt
FLUSH_SECONDS = 30.0  # events reach the file at most this often, as TensorBoard looks for new ones
EVENT_FILE = "events.out.tfevents"  # TensorBoard reads files with "tfevents" in their names

Row = Mapping[str, Any]


def losses_of(row: Mapping[str, Any]) -> str:
    """Return the training losses of a row as text, for a display."""
    names = [name for name in row if name.endswith("_loss") and not name.startswith("held_out_")]
    return "  ".join(f"{name.removesuffix('_loss')} {row[name]:.3f}" for name in names)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Return an attempt's rows, without a last line that a kill cut off."""
    whole, _, _ = (folder / ROWS).read_text().rpartition("\n")
    rows = [json.loads(line) for line in whole.splitlines()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{folder / ROWS} has a line that is not a row of metrics")
    return rows


def last_row(folder: Path) -> dict[str, Any]:
    """Return the last whole row of an attempt, for a display; empty if there is none."""
    return next(last_rows(folder, BLOCK), {})


def last_rows(folder: Path, num_bytes: int) -> Iterator[dict[str, Any]]:
    """Yield the whole rows in the last ``num_bytes`` of an attempt's file, newest first; for a display."""
    with contextlib.suppress(FileNotFoundError), (folder / ROWS).open("rb") as stream:
        start = stream.seek(max(0, stream.seek(0, os.SEEK_END) - num_bytes))
        yield from _rows(reversed(stream.readlines()[1 if start else 0 :]))  # the first line may be cut


def rows_at(folder: Path, steps: Collection[int]) -> dict[int, dict[str, Any]]:
    """Return an attempt's rows of these steps, by step, without those that it lacks."""
    rows: dict[int, dict[str, Any]] = {}
    with contextlib.suppress(FileNotFoundError), (folder / ROWS).open("rb") as stream:
        for row in _rows(stream):
            if row.get("step") in steps:
                rows[row["step"]] = row
            if row.get("step", -1) >= max(steps, default=-1):
                break  # rows are in the order of their steps
    return rows


def _rows(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the rows of these lines, without broken ones."""
    for line in lines:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                yield row


def scalars_of(row: Row) -> dict[str, float]:
    """Return the values of a row without ``step``, by their names in groups: training, held-out pairs, machine."""
    scalars = {}
    for name, value in row.items():
        group = "held_out" if name.startswith("held_out_") else "machine" if name in OF_MACHINE else "train"
        if name != "step" and value is not None:
            scalars[f"{group}/{name}"] = value
    return scalars


class TensorBoard:
    """The events of an attempt, as TensorBoard's records, for as long as they can be written: a failure is one warning.

    TensorBoard's own event writer has a thread that dies of a full disk.
    """

    def __init__(self, folder: Path, *, is_on: bool = True) -> None:
        self._folder, self._is_on = folder, is_on  # of the attempt
        self._records: Any = None  # before the first row
        self._started = 0.0  # seconds since 1970, from which the rows' seconds count
        self._flushed_at = float("-inf")

    def write_rows(self, rows: Sequence[Row]) -> None:
        """Write rows, the last of which is new."""
        if not rows:
            return
        with self._or_warning():
            if self._records is None and self._is_on:
                self._open(time.time() - rows[-1].get("seconds", 0.0))
            for row in rows if self._is_on else ():
                values = [{"tag": tag, "simple_value": value} for tag, value in scalars_of(row).items()]
                at = self._started + row.get("seconds", 0.0)
                self._write(wall_time=at, step=row["step"], summary={"value": values})

    def flush(self) -> None:
        if self._records is not None and time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            with self._or_warning():
                self._records.flush()
                self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Write what is left."""
        if self._records is not None:
            with self._or_warning():
                self._records.close()

    def _open(self, started: float) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter  # here, as most commands write no events

        (self._folder / EVENTS).mkdir(exist_ok=True, parents=True)
        self._records = RecordWriter((self._folder / EVENTS / EVENT_FILE).open("wb"))
        self._started = started
        self._write(wall_time=time.time(), file_version="brain.Event:2")

    def _write(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(**fields).SerializeToString())

    @contextlib.contextmanager
    def _or_warning(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of any kind, such as a full disk
            records, self._records, self._is_on = self._records, None, False
            if records is not None:
                with contextlib.suppress(OSError):  # what is left of it cannot be written either
                    records.close()
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            print(f"no more rows in tensorboard of {self._folder}: {reason}", file=sys.stderr)
