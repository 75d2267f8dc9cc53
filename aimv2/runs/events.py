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


class Events:
    """The events of an attempt, for as long as they can be written: a failure is one warning, and ends no run.

    TensorBoard's own writer would open the file again for each record.

    Args:
        folder: the attempt's.
        is_on: False writes nothing.
    """

    def __init__(self, folder: Path, *, is_on: bool) -> None:
        self._folder = folder / EVENTS
        self._is_on = is_on
        self._records: Any = None  # the open file
        self._started = 0.0  # seconds since 1970, from which the rows' seconds count
        self._flushed_at = float("-inf")

    def write_rows(self, rows: Sequence[Row]) -> None:
        """Write rows, the last of which is new. The first ones replace a file that is there."""
        with self._or_warning():
            if self._is_on and self._records is None and rows:
                from tensorboard.summary.writer.record_writer import RecordWriter  # most commands write no events

                self._folder.mkdir(exist_ok=True, parents=True)
                self._records = RecordWriter((self._folder / FILE).open("wb"))
                self._started = time.time() - rows[-1].get("seconds", 0.0)
                self._write(wall_time=time.time(), file_version="brain.Event:2")
            for row in rows:
                values = [{"tag": tag, "simple_value": value} for tag, value in scalars_of(row).items()]
                time_of_row = self._started + row.get("seconds", 0.0)
                self._write(wall_time=time_of_row, step=row["step"], summary={"value": values})

    def write_picture(self, png: bytes, step: int) -> None:
        """Write the picture of a step."""
        width, height = (int.from_bytes(png[start : start + 4]) for start in (16, 20))  # of PNG's first chunk
        image = {"width": width, "height": height, "colorspace": 3, "encoded_image_string": png}
        with self._or_warning():
            self._write(wall_time=time.time(), step=step, summary={"value": [{"tag": PICTURES, "image": image}]})

    def _write(self, **fields: Any) -> None:
        if self._records is not None:
            from tensorboard.compat.proto.event_pb2 import Event

            self._records.write(Event(**fields).SerializeToString())

    def flush(self) -> None:
        with self._or_warning():
            if self._records is not None and time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
                self._records.flush()
                self._flushed_at = time.monotonic()

    def close(self) -> None:
        with self._or_warning():
            if self._records is not None:
                self._records.close()

    @contextlib.contextmanager
    def _or_warning(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of any kind, from a full disk to a broken installation: the run does without
            print(f"no more TensorBoard events in {self._folder}: {error}", file=sys.stderr)
            records, self._records, self._is_on = self._records, None, False
            if records is not None:
                with contextlib.suppress(OSError):
                    records.close()
