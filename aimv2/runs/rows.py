"""Metric rows of an attempt: a JSON line per step, and what TensorBoard and Weights & Biases show of them."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aimv2.base.files import read_json
from aimv2.config.program import flattened
from aimv2.config.training_config import LogConfig

ROWS = "metrics.jsonl"
BLOCK = 4096  # bytes; at least twice the longest row
# Columns that are no results: they depend on the machine and its load.
OF_MACHINE = ("seconds", "images_per_second", "step_cpu_seconds", "gemm_share", "memory_bytes")

EVENTS = "tensorboard"  # a folder of an attempt
FLUSH_SECONDS = 30.0  # events reach the file at most this often, as TensorBoard looks for new ones
EVENT_FILE = "events.out.tfevents"  # TensorBoard reads files with "tfevents" in their names
PICTURES = "predictions"  # the tag of pictures
PROJECT = "aimv2"  # of W&B, unless WANDB_PROJECT names another
SERVER_SECONDS = 15.0  # that a run waits for W&B at most, at its start and at its end
INSTALL = "pip install 'aimv2-ablations[trackers]'"

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
    """The events of an attempt, as TensorBoard's records. Its event writer has a thread that dies of a full disk."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter  # here, as most commands write no events

        (folder / EVENTS).mkdir(exist_ok=True, parents=True)
        self._records = RecordWriter((folder / EVENTS / EVENT_FILE).open("wb"))
        self._flushed_at = float("-inf")
        self._write(wall_time=time.time(), file_version="brain.Event:2")

    def write_row(self, row: Row, time_of_row: float) -> None:
        """Write a row, whose values were measured at this time, in seconds since 1970."""
        values = [{"tag": tag, "simple_value": value} for tag, value in scalars_of(row).items()]
        self._write(wall_time=time_of_row, step=row["step"], summary={"value": values})

    def write_picture(self, png: bytes, step: int) -> None:
        width, height = (int.from_bytes(png[start : start + 4]) for start in (16, 20))  # of PNG's first chunk
        image = {"width": width, "height": height, "colorspace": 3, "encoded_image_string": png}
        self._write(wall_time=time.time(), step=step, summary={"value": [{"tag": PICTURES, "image": image}]})

    def _write(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(**fields).SerializeToString())

    def flush(self) -> None:
        if time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            self._records.flush()
            self._flushed_at = time.monotonic()

    def close(self, state: str) -> None:
        """Write what is left; the attempt has ended in this state."""
        self._records.close()


class Wandb:
    """A run of Weights & Biases, created or continued: online with a key, unless WANDB_MODE says otherwise; else in a
    folder, for ``wandb sync``.

    It has the name of our run, so that every attempt continues the same one.
    """

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False) else "offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=name,
            name=name,
            config=dict(config),
            dir=folder,
            mode=mode,
            resume="allow" if mode == "online" else None,  # offline there is no server to ask
            reinit="create_new",
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                x_disable_stats=True,
                init_timeout=SERVER_SECONDS,
                finish_timeout=SERVER_SECONDS,
            ),
        )
        self._newest = self._run.step - 1 if self._run.resumed else -1  # step that the server has

    @classmethod
    def of_attempt(cls, folder: Path) -> "Wandb":
        """Return the run of the attempt in this folder."""
        run = folder.parents[1]
        return cls(run.name, flattened(read_json(run / "config.json")), folder)

    def write_row(self, row: Row, time_of_row: float) -> None:
        if row["step"] > self._newest:
            self._run.log({**scalars_of(row), "time": time_of_row}, step=row["step"])

    def write_picture(self, png: bytes, step: int) -> None:
        """Do nothing: pictures are in TensorBoard."""

    def flush(self) -> None:
        """Do nothing: a process of W&B's own sends rows at once."""

    def close(self, state: str) -> None:
        self._run.finish(exit_code=int(state != "done"))


class Trackers:
    """TensorBoard and W&B, as far as they are switched on, for as long as they work: a failure is one warning."""

    def __init__(self, folder: Path, log: LogConfig) -> None:
        self._folder = folder  # of the attempt
        self._log = log
        self._writers: dict[str, TensorBoard | Wandb] | None = None  # None before the first row
        self._started = 0.0  # seconds since 1970, from which the rows' seconds count

    def write_rows(self, rows: Sequence[Row]) -> None:
        """Write rows, the last of which is new."""
        if rows and self._writers is None:
            self._started, self._writers = time.time() - rows[-1].get("seconds", 0.0), {}
            for name, writer_of in TRACKERS.items():
                if getattr(self._log, name):
                    with self._or_warning(name):
                        self._writers[name] = writer_of(self._folder)

        def write(writer: TensorBoard | Wandb) -> None:
            for row in rows:
                writer.write_row(row, self._started + row.get("seconds", 0.0))

        self._each(write)

    def write_picture(self, png: bytes, step: int) -> None:
        self._each(lambda writer: writer.write_picture(png, step))

    def flush(self) -> None:
        self._each(lambda writer: writer.flush())

    def close(self, state: str) -> None:
        self._each(lambda writer: writer.close(state))

    def _each(self, call: Callable[[TensorBoard | Wandb], None]) -> None:
        for name, writer in list((self._writers or {}).items()):
            with self._or_warning(name):
                call(writer)

    @contextlib.contextmanager
    def _or_warning(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of any kind, from a full disk to a server that does not answer
            writer = (self._writers or {}).pop(name, None)
            if isinstance(writer, TensorBoard):
                with contextlib.suppress(OSError):  # what is left of it cannot be written either
                    writer.close("failed")
            hint = f"; install it: {INSTALL}" if isinstance(error, ImportError) else ""
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            print(f"no more rows in {name} of {self._folder}: {reason}{hint}", file=sys.stderr)


TRACKERS: Mapping[str, Callable[[Path], TensorBoard | Wandb]] = {"tensorboard": TensorBoard, "wandb": Wandb.of_attempt}
