"""Rows of a location that are samples, and those that are held out. Letters: N rows, K kept rows, M held-out rows."""

import hashlib
import json
import math
import multiprocessing
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aimv2.data.bad import BadSampleError
from aimv2.data.files.description import Filter, HeldOut, Location, SourceDescription
from aimv2.data.files.index_folder import OnProgress, command, index_path
from aimv2.data.files.records import Part, Records
from aimv2.errors import UsageError

MAX_HELD_OUT = 20_000
MAX_HELD_OUT_FRACTION = 0.2
CHUNK = 2**16
KEPT, HELD_OUT, RULES = "kept.npy", "held_out.npy", "selection.json"


class Selection(NamedTuple):
    """Rows of a location.

    Attributes:
        kept_N: rows that meet all filters, int64 [K], ascending; None if there are no filters.
        held_out_M: indices into the kept rows of those that training does not show, int64 [M], ascending.
    """

    kept_N: np.ndarray | None
    held_out_M: np.ndarray


def meets(value: Any, condition: Filter) -> bool:
    """True if the value of a field meets a condition. Text that is a number is compared as a number."""
    if value is None or (condition.any_of is not None and not is_one_of(value, condition.any_of)):
        return False
    if condition.min is None and condition.max is None:
        return True
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return False
    lowest = -math.inf if condition.min is None else condition.min
    highest = math.inf if condition.max is None else condition.max
    return lowest <= number <= highest


def is_one_of(value: Any, allowed: tuple[str | int | float | bool, ...]) -> bool:
    """True if a value is among those of a description; text, as in CSV files, may be that of a number."""
    return any(
        isinstance(value, bool) == isinstance(option, bool) and value == option
        if not isinstance(value, str) or isinstance(option, str)
        else value == (str(option).lower() if isinstance(option, bool) else str(option))
        for option in allowed
    )


def held_out_by_hash(hash_B: np.ndarray, fraction: float) -> np.ndarray:
    """True where hash / 2**64 < fraction: bool [B]."""
    return hash_B < np.uint64(math.ceil(fraction * 2**64))


def write_kept(records: Records, location: Location, workers: int, on_progress: OnProgress) -> np.ndarray | None:
    """Find the rows that meet the filters, write them into the index and return them, None without filters.

    Raises:
        UsageError: no sample meets the filters.
    """
    return _select(records, location, None, workers, on_progress).kept_N


def write_selection(
    records: Records, description: SourceDescription, workers: int, on_progress: OnProgress
) -> Selection:
    """Find the rows that meet the filters and those that are held out, and write them into the index.

    Raises:
        UsageError: no sample meets the filters, or all are held out, or none.
    """
    held_out = description.held_out or HeldOut(fraction=MAX_HELD_OUT_FRACTION)
    return _select(records, description, held_out, workers, on_progress)


def read_selection(records: Records, location: Location) -> Selection:
    """Open what was written, memory-mapped; without a rule for held-out samples, none is.

    Raises:
        UsageError: nothing was written, or it was written for other filters, another held_out or other samples.
    """
    index = index_path(location)
    try:
        rules = json.loads((index / RULES).read_text())
    except FileNotFoundError:
        raise UsageError(f"{index} has no selection of samples; write it with {command(location)}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{index / RULES} cannot be read ({error}); write it with {command(location)}") from error
    now = _rules(records, location)
    changed = [name for name, value in now.items() if rules.get(name) != value]
    if changed:
        raise UsageError(
            f"{' and '.join(changed)} changed since {index} was written; write it again with {command(location)}"
        )
    kept_N = np.load(index / KEPT, mmap_mode="r", allow_pickle=False) if location.filters else None
    held_out_M = np.load(index / HELD_OUT, mmap_mode="r", allow_pickle=False)
    return Selection(kept_N, held_out_M)


def digest(parts: list[Part]) -> str:
    """Return a digest of the content of a location."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _select(
    records: Records, location: Location, held_out: HeldOut | None, workers: int, on_progress: OnProgress
) -> Selection:
    by_field = held_out if held_out and held_out.field else None
    kept_N, chosen_N = None, None
    if location.filters or by_field:
        is_kept_N, chosen_N = _pass(records, location.filters, by_field, workers, on_progress)
        kept_N = np.flatnonzero(is_kept_N) if location.filters else None
    num_kept = len(records) if kept_N is None else len(kept_N)
    if not num_kept:
        raise UsageError(f"none of {len(records)} samples meets the filters {', '.join(location.filters)}")
    held_out_M = np.empty(0, np.int64)
    if by_field and chosen_N is not None:
        held_out_M = np.flatnonzero(chosen_N if kept_N is None else chosen_N[kept_N])
    elif held_out:
        fraction = held_out.fraction
        if isinstance(location, SourceDescription) and location.held_out is None:
            fraction = min(MAX_HELD_OUT_FRACTION, MAX_HELD_OUT / num_kept)
        held_out_M = _by_hash(records, kept_N, num_kept, fraction or 0.0)
    if held_out and not 0 < len(held_out_M) < num_kept:
        raise UsageError(_unusable(held_out, len(held_out_M), num_kept))
    index = index_path(location)
    if kept_N is not None:
        _save(index / KEPT, kept_N)
    _save(index / HELD_OUT, held_out_M)
    _write_rules(index / RULES, _rules(records, location))
    return Selection(kept_N, held_out_M)


def _by_hash(records: Records, kept_N: np.ndarray | None, num_kept: int, fraction: float) -> np.ndarray:
    found = [np.empty(0, np.int64)]
    for start in range(0, num_kept, CHUNK):
        index_B = np.arange(start, min(start + CHUNK, num_kept))
        row_B = index_B if kept_N is None else kept_N[index_B]
        found.append(index_B[held_out_by_hash(records.key_hashes(row_B), fraction)])
    return np.concatenate(found)


def _pass(
    records: Records, filters: Mapping[str, Filter], by_field: HeldOut | None, workers: int, on_progress: OnProgress
) -> tuple[np.ndarray, np.ndarray]:
    """Read the fields once: bool [N], the row meets the filters; bool [N], its field has one of the held-out values."""
    kept_N, chosen_N = np.zeros(len(records), bool), np.zeros(len(records), bool)
    for start, kept_B, chosen_B in _chunks(records, filters, by_field, workers):
        end = start + len(kept_B)
        kept_N[start:end], chosen_N[start:end] = kept_B, chosen_B
        on_progress(end, len(records))
    return kept_N, chosen_N


def _chunks(
    records: Records, filters: Mapping[str, Filter], by_field: HeldOut | None, workers: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    starts = range(0, len(records), CHUNK)
    if workers <= 1 or len(starts) == 1:
        for start in starts:
            yield _chunk(records, filters, by_field, start)
        return
    context = multiprocessing.get_context("spawn")  # a fork copies locks of threads that it does not have
    with ProcessPoolExecutor(workers, context, _set_up, (records, filters, by_field)) as pool:
        yield from pool.map(_chunk_here, starts)


_here: tuple[Records, Mapping[str, Filter], HeldOut | None] | None = None  # of a worker process


def _set_up(records: Records, filters: Mapping[str, Filter], by_field: HeldOut | None) -> None:
    global _here
    _here = records, filters, by_field


def _chunk_here(start: int) -> tuple[int, np.ndarray, np.ndarray]:
    assert _here is not None, "the pool sets up its workers"
    return _chunk(*_here, start)


def _chunk(
    records: Records, filters: Mapping[str, Filter], by_field: HeldOut | None, start: int
) -> tuple[int, np.ndarray, np.ndarray]:
    rows = range(start, min(start + CHUNK, len(records)))
    kept = [_meets_all(records, row, filters) for row in rows]
    chosen = [by_field is not None and _is_chosen(records, row, by_field) for row in rows]
    return start, np.array(kept, bool), np.array(chosen, bool)


def _meets_all(records: Records, row: int, filters: Mapping[str, Filter]) -> bool:
    return all(meets(_value(records, row, name), condition) for name, condition in filters.items())


def _is_chosen(records: Records, row: int, rule: HeldOut) -> bool:
    return is_one_of(_value(records, row, rule.field or ""), rule.values)


def _value(records: Records, row: int, name: str) -> Any:
    """Return the value of a field, None if there is none or its member is broken."""
    try:
        return records.field(row, name)
    except BadSampleError:
        return None


def _rules(records: Records, location: Location) -> dict[str, str]:
    """Return digests of what a selection depends on, by the name in error messages."""
    filters = {name: [c.min, c.max, c.any_of] for name, c in sorted(location.filters.items())}
    rules = {"filters": json.dumps(filters), "the samples": digest(records.parts())}
    if isinstance(location, SourceDescription):
        held_out = location.held_out
        rule = (
            [held_out.fraction, held_out.field, held_out.values] if held_out else [MAX_HELD_OUT, MAX_HELD_OUT_FRACTION]
        )
        rules["held_out"] = json.dumps(rule)
    return rules


def _unusable(held_out: HeldOut, num_held_out: int, num_kept: int) -> str:
    rule = f"{held_out.field} in {list(held_out.values)}" if held_out.field else f"fraction {held_out.fraction:g}"
    what = f"none of {num_kept} samples is" if not num_held_out else f"all {num_kept} samples are"
    return f"held_out: {what} held out ({rule}); training and evaluation need at least one each: change held_out"


def _save(path: Path, array: np.ndarray) -> None:
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.npy")
    try:
        np.save(partial, array.astype(np.int64), allow_pickle=False)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write_rules(path: Path, rules: Mapping[str, str]) -> None:
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        partial.write_text(json.dumps(rules, indent=1) + "\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
