"""Metric rows of an attempt: a JSON line per step."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def loss_of(row: Mapping[str, Any]) -> float | None:
    """The first training loss of a metric row, None where there is none: what runs of one kind are compared by."""
    return next((row[name] for name in row if name.endswith("_loss") and not name.startswith("held_out_")), None)


def losses_of(row: Mapping[str, Any]) -> str:
    """The training losses of a metric row, whatever the objective calls them, for a display."""
    names = [name for name in row if name.endswith("_loss") and not name.startswith("held_out_")]
    return "  ".join(f"{name.removesuffix('_loss')} {row[name]:.3f}" for name in names)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """An attempt's metric rows; a last line that a kill cut off is left out.

    Raises:
        ValueError: a line is broken.
    """
    whole, _, _ = (folder / "metrics.jsonl").read_text().rpartition("\n")
    rows = [json.loads(line) for line in whole.splitlines()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{folder / 'metrics.jsonl'} has a line that is no row of metrics")
    return rows


def last_rows(folder: Path, num_bytes: int = 4096) -> list[dict[str, Any]]:
    """An attempt's newest metric rows, as many as so many bytes hold, without broken ones; for a display."""
    try:
        with (folder / "metrics.jsonl").open("rb") as stream:
            start = max(0, stream.seek(0, os.SEEK_END) - num_bytes)
            stream.seek(start)
            return _whole_rows(stream.read(), is_start=start == 0)
    except FileNotFoundError:
        return []


def row_at(folder: Path, step: int, *, block: int = 4096) -> dict[str, Any] | None:
    """An attempt's row of one step, or None. Rows are in the order of their steps, so it is looked for by halves: a few
    kilobytes are read, however long the run.

    Args:
        block: bytes in which no further halves are taken; no row is half as long.
    """
    try:
        with (folder / "metrics.jsonl").open("rb") as stream:
            low, high = 0, stream.seek(0, os.SEEK_END)
            while high - low > block:
                middle = (low + high) // 2
                stream.seek(middle)
                found = _whole_rows(stream.read(block), is_start=False)
                if found and found[0].get("step", step) <= step:
                    low = middle
                else:
                    high = middle
            stream.seek(low)
            rows = _whole_rows(stream.read(3 * block), is_start=low == 0)
    except FileNotFoundError:
        return None
    return next((row for row in rows if row.get("step") == step), None)


def _whole_rows(text: bytes, *, is_start: bool) -> list[dict[str, Any]]:
    """The rows of a piece of a metrics file, without those that its ends cut and any that are broken."""
    rows = []
    for line in text.split(b"\n")[0 if is_start else 1 : -1]:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    return rows
