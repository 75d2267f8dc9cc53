"""Metric rows of an attempt: a JSON line per step."""

import contextlib
import json
import os
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROWS = "metrics.jsonl"
BLOCK = 4096  # bytes; at least twice the longest row
# Columns that are no results: they depend on the machine and its load.
OF_MACHINE = ("seconds", "images_per_second", "step_cpu_seconds", "gemm_share", "memory_bytes")


def losses_of(row: Mapping[str, Any]) -> str:
    """Return the training losses of a row as text, for a display."""
    names = [name for name in row if name.endswith("_loss") and not name.startswith("held_out_")]
    return "  ".join(f"{name.removesuffix('_loss')} {row[name]:.3f}" for name in names)


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


def last_row(folder: Path) -> dict[str, Any]:
    """Return the last whole row of an attempt, for a display; empty if there is none."""
    return next(last_rows(folder, BLOCK), {})


def last_rows(folder: Path, num_bytes: int) -> Iterator[dict[str, Any]]:
    """Yield the whole rows in the last ``num_bytes`` of an attempt's file, newest first; for a display."""
    with contextlib.suppress(FileNotFoundError), (folder / ROWS).open("rb") as stream:
        start = stream.seek(max(0, stream.seek(0, os.SEEK_END) - num_bytes))
        yield from _rows(reversed(stream.readlines()[1 if start else 0 :]))  # the first line may be cut


def rows_at(folder: Path, steps: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Return an attempt's rows of these steps, by step, without those that it lacks.

    Rows are in the order of their steps, so a binary search reads a few kilobytes of a file of any length.
    """
    found = {}
    with contextlib.suppress(FileNotFoundError), (folder / ROWS).open("rb") as stream:

        @cache
        def next_row(place: int) -> dict[str, Any]:
            """Return the first row that begins at this byte or later; empty if there is none."""
            stream.seek(max(place - 1, 0))
            if place:
                stream.readline()
            return next(_rows(stream), {})

        places = range(stream.seek(0, os.SEEK_END))
        for step in steps:
            place = bisect_left(places, step, key=lambda place: next_row(place).get("step", sys.maxsize))
            if next_row(place).get("step") == step:
                found[step] = next_row(place)
    return found


def _rows(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the rows of these lines, without broken ones."""
    for line in lines:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                yield row
