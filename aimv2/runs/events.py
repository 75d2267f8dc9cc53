"""TensorBoard events: metric rows as scalars, and pictures. ``tensorboard`` is imported when the first is written."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aimv2.runs.rows import OF_MACHINE

EVENTS = "tensorboard"  # a folder of an attempt
FILE = "events.out.tfevents"  # TensorBoard reads files with "tfevents" in their names
PICTURES = "predictions"  # the tag of pictures
FLUSH_SECONDS = 30.0  # events reach the file at most this often, as TensorBoard looks for new ones

Row = Mapping[str, Any]


def tag_of(column: str) -> str:
    """Return the tag of a column: its name, in the group of values of training, of held-out pairs or of the machine."""
    group = "held_out" if column.startswith("held_out_") else "machine" if column in OF_MACHINE else "train"
    return f"{group}/{column}"


def scalars_of(row: Row) -> dict[str, float]:
    """Return the values of a row by tag, without ``step``."""
    return {tag_of(name): value for name, value in row.items() if name != "step" and value is not None}


class EventFile:
    """A file of events in a folder, which is created. A file that is there is replaced."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # here, because most commands write no events
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        folder.mkdir(exist_ok=True, parents=True)
        self._records = RecordWriter((folder / FILE).open("wb"))
        self._records.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())

    def write_scalars(self, scalars: Mapping[str, float], step: int, wall_time: float) -> None:
        """Write values of a step by tag, in float32, with a time in seconds since 1970."""
        values = [self._summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._write(values, step, wall_time)

    def write_picture(self, png: bytes, step: int, wall_time: float) -> None:
        width, height = (int.from_bytes(png[start : start + 4]) for start in (16, 20))  # of PNG's first chunk
        image = self._summary.Image(width=width, height=height, colorspace=3, encoded_image_string=png)
        self._write([self._summary.Value(tag=PICTURES, image=image)], step, wall_time)

    def _write(self, values: list[Any], step: int, wall_time: float) -> None:
        event = self._event(wall_time=wall_time, step=step, summary=self._summary(value=values))
        self._records.write(event.SerializeToString())

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.close()


class Events:
    """The events of an attempt, for as long as they can be written: a failure is one warning, and ends no run.

    Args:
        folder: the attempt's.
        is_on: False writes nothing.
    """

    def __init__(self, folder: Path, *, is_on: bool) -> None:
        self._folder = folder / EVENTS
        self._is_on = is_on
        self._file: EventFile | None = None
        self._started = 0.0  # seconds since 1970, from which the rows' seconds count
        self._flushed_at = float("-inf")

    def write_rows(self, rows: Sequence[Row]) -> None:
        """Write rows, the last of which is new."""
        with self._or_warning():
            if self._is_on and self._file is None and rows:
                self._file = EventFile(self._folder)
                self._started = time.time() - rows[-1].get("seconds", 0.0)
            if self._file is not None:
                for row in rows:
                    self._file.write_scalars(scalars_of(row), row["step"], self._started + row.get("seconds", 0.0))

    def write_picture(self, png: bytes, step: int) -> None:
        """Write the picture of a step."""
        with self._or_warning():
            if self._file is not None:
                self._file.write_picture(png, step, time.time())

    def flush(self) -> None:
        with self._or_warning():
            if self._file is not None and time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
                self._file.flush()
                self._flushed_at = time.monotonic()

    def close(self) -> None:
        with self._or_warning():
            if self._file is not None:
                self._file.close()

    @contextlib.contextmanager
    def _or_warning(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of any kind, from a full disk to a broken installation: the run does without
            print(f"no more TensorBoard events in {self._folder}: {error}", file=sys.stderr)
            file, self._file, self._is_on = self._file, None, False
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()
