"""Metric rows of an attempt: a JSON line per step."""

import contextlib
import json
import os
import sys
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROWS = "metrics.jsonl"


def loss_of(row: Mapping[str, Any]) -> float | None:
    """Return the first training loss of a row, by which similar runs are compared; None if there is none."""
    return next((row[name] for name in _training_losses(row)), None)


def losses_of(row: Mapping[str, Any]) -> str:
    """Return all training losses of a row as text, for a display."""
    return "  ".join(f"{name.removesuffix('_loss')} {row[name]:.3f}" for name in _training_losses(row))


def _training_losses(row: Mapping[str, Any]) -> list[str]:
    return [name for name in row if name.endswith("_loss") and not name.startswith("held_out_")]


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Return an attempt's rows, without a last line that a kill cut off.

    Raises:
        ValueError: a line is broken.
    """
    whole, _, _ = (folder / ROWS).read_text().rpartition("\n")
    rows = [json.loads(line) for line in whole.splitlines()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{folder / ROWS} has a line that is not a row of metrics")
    return rows


def last_rows(folder: Path, num_bytes: int = 4096) -> list[dict[str, Any]]:
    """Return the rows in the last ``num_bytes`` of an attempt's file, without broken ones; for a display."""
    try:
        with (folder / ROWS).open("rb") as stream:
            start = max(0, stream.seek(0, os.SEEK_END) - num_bytes)
            stream.seek(start)
            return _whole_rows(stream.read(), is_start=start == 0)
    except FileNotFoundError:
        return []


def rows_at(folder: Path, steps: Iterable[int], *, block: int = 4096) -> dict[int, dict[str, Any]]:
    """Return an attempt's rows of these steps, by step, without those that it lacks.

    Rows are in the order of their steps, so a binary search reads a few kilobytes of a file of any length.

    Args:
        block: bytes that are read at once; at least twice the longest row.
    """
    found = {}
    with contextlib.suppress(FileNotFoundError), (folder / ROWS).open("rb") as stream:

        @cache
        def rows(start: int, num_bytes: int = block) -> list[dict[str, Any]]:
            stream.seek(start)
            return _whole_rows(stream.read(num_bytes), is_start=start == 0)

        def first_step(start: int) -> int:
            return next((row.get("step", -1) for row in rows(start)), sys.maxsize)

        starts = range(0, stream.seek(0, os.SEEK_END), block)
        for step in steps:
            start = block * max(bisect_right(starts, step, key=first_step) - 1, 0)
            if row := next((row for row in rows(start, 3 * block) if row.get("step") == step), None):
                found[step] = row
    return found


def _whole_rows(text: bytes, *, is_start: bool) -> list[dict[str, Any]]:
    """Return the rows of a part of a metrics file, without broken ones and those that the part cuts."""
    rows = []
    for line in text.split(b"\n")[0 if is_start else 1 : -1]:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    return rows
