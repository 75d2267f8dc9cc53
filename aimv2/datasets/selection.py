"""Which rows of a location are samples, and which of those are held out. Letters: N rows, K kept, M held out."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aimv2.base import address
from aimv2.base.errors import BadSampleError, UsageError
from aimv2.base.files import replacing, write_json
from aimv2.base.processes import in_processes
from aimv2.datasets.description import Filter, HeldOutRule, Location, SourceDescription
from aimv2.datasets.index import OnProgress, command, index_path
from aimv2.datasets.records import Records

MAX_HELD_OUT = 20_000
MAX_HELD_OUT_FRACTION = 0.2
CHUNK = 2**16
KEPT, HELD_OUT, RULES = "kept.npy", "held_out.npy", "selection.json"


class Selection(NamedTuple):
    """Rows of a location."""

    kept_N: np.ndarray | None  # rows that meet all filters and are not excluded, int64 [K], ascending; None for all
    held_out_M: np.ndarray  # indices into the kept rows of those that training does not show, int64 [M], ascending
    num_broken: int = 0  # samples that were left out, or not held out, because a member that decides is broken
    num_excluded: int = 0


def held_out_by_hash(hash_B: np.ndarray, fraction: float) -> np.ndarray:
    """True where hash / 2**64 < fraction: bool [B]."""
    return hash_B < np.uint64(math.ceil(fraction * 2**64))


def write_selection(records: Records, location: Location, workers: int, on_progress: OnProgress) -> Selection:
    """Find the rows that meet the filters, and of a source those that are held out, and write them into the index."""
    held_out = None
    if isinstance(location, SourceDescription):
        held_out = location.held_out or HeldOutRule(fraction=MAX_HELD_OUT_FRACTION)
    by_field = held_out if held_out and held_out.field else None
    kept_N, chosen_N, num_broken = None, None, 0
    if location.filters or by_field:
        is_kept_N, chosen_N, num_broken = _pass(records, location.filters, by_field, workers, on_progress)
        kept_N = np.flatnonzero(is_kept_N) if location.filters else None
    if not (num_met := len(records) if kept_N is None else len(kept_N)):
        for name in location.filters:
            require_field(records, "filters", name)
        raise UsageError(f"none of {len(records)} samples meets the filters {', '.join(location.filters)}")
    if location.exclude:
        hash_M = np.array([address.hash64(key) for key in excluded_keys(location)], np.uint64)
        index_N = _where(records, kept_N, lambda hash_B: ~np.isin(hash_B, hash_M))
        kept_N = index_N if kept_N is None else kept_N[index_N]
    num_kept = num_met if kept_N is None else len(kept_N)
    if not num_kept:
        raise UsageError(f"exclude: {location.exclude} has the keys of all samples")
    held_out_M = np.empty(0, np.int64)
    if by_field and chosen_N is not None:
        held_out_M = np.flatnonzero(chosen_N if kept_N is None else chosen_N[kept_N])
    elif held_out:
        fraction = held_out.fraction or 0.0
        if isinstance(location, SourceDescription) and location.held_out is None:
            fraction = min(MAX_HELD_OUT_FRACTION, MAX_HELD_OUT / num_met)  # the same one whatever is excluded
        held_out_M = _where(records, kept_N, lambda hash_B: held_out_by_hash(hash_B, fraction))
    if held_out and not 0 < len(held_out_M) < num_kept:
        if held_out.field:
            require_field(records, "held_out", held_out.field)
        rule = f"{held_out.field} in {list(held_out.values)}" if held_out.field else f"fraction {held_out.fraction:g}"
        what = f"all {num_kept} samples are" if len(held_out_M) else f"none of {num_kept} samples is"
        raise UsageError(
            f"held_out: {what} held out ({rule}); training and evaluation need at least one each: change held_out"
        )
    selected = Selection(kept_N, held_out_M, num_broken, num_met - num_kept)
    remove(location)  # until all is written, there is none
    for name, array in ((KEPT, selected.kept_N), (HELD_OUT, selected.held_out_M)):
        if array is not None:
            with replacing(index_path(location) / name) as partial, partial.open("wb") as file:
                np.save(file, array.astype(np.int64), allow_pickle=False)
    write_json(index_path(location) / RULES, _rules(records, location))
    return selected


def read_selection(records: Records, location: Location) -> Selection:
    """Open what was written, memory-mapped; without a rule for held-out samples, none is."""
    index = index_path(location)
    try:
        rules = json.loads((index / RULES).read_text())
    except FileNotFoundError:
        raise UsageError(f"{index} has no selection of samples; write it with {command(location)}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{index / RULES} cannot be read ({error}); write it with {command(location)}") from error
    if changed := [name for name, value in _rules(records, location).items() if rules.get(name) != value]:
        raise UsageError(
            f"{' and '.join(changed)} changed since {index} was written; write it again with {command(location)}"
        )
    is_selected = bool(location.filters or location.exclude)
    kept_N = np.load(index / KEPT, mmap_mode="r", allow_pickle=False) if is_selected else None
    return Selection(kept_N, np.load(index / HELD_OUT, mmap_mode="r", allow_pickle=False))


def remove(location: Location) -> None:
    (index_path(location) / RULES).unlink(missing_ok=True)


def excluded_keys(location: Location) -> list[str]:
    """Return the keys in the file that a location excludes, a line each."""
    if location.exclude is None:
        return []
    try:
        return [line for line in Path(location.exclude).read_text(encoding="utf-8").splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"exclude: {location.exclude} cannot be read: {error}") from error


def excluded_digest(location: Location) -> str:
    """Return a digest of the keys that a location excludes, whatever their order; empty if it excludes none."""
    keys = sorted(set(excluded_keys(location)))
    return hashlib.sha256("\n".join(keys).encode()).hexdigest() if keys else ""


def _where(records: Records, kept_N: np.ndarray | None, is_chosen: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return indices into the kept rows of those that are chosen by the hashes of their keys: int64 [N]."""
    chosen, num_kept = [np.empty(0, np.int64)], len(records) if kept_N is None else len(kept_N)
    for start in range(0, num_kept, CHUNK):
        index_B = np.arange(start, min(start + CHUNK, num_kept))
        row_B = index_B if kept_N is None else kept_N[index_B]
        chosen.append(index_B[is_chosen(records.key_hashes(row_B))])
    return np.concatenate(chosen)


Chunk = tuple[np.ndarray, np.ndarray, int]  # rows that meet the filters and are held out, bool [B]; and broken ones


def _pass(
    records: Records, filters: Mapping[str, Filter], by_field: HeldOutRule | None, workers: int, on_progress: OnProgress
) -> Chunk:
    starts, chunks = range(0, len(records), CHUNK), list[Chunk]()
    for chunk in in_processes(
        partial(_chunk, records, filters, by_field), starts, min(workers, len(starts)), "reads fields"
    ):
        chunks.append(chunk)
        on_progress(min(len(chunks) * CHUNK, len(records)), len(records))
    kept, chosen, num_broken = zip(*chunks, strict=True)
    return np.concatenate(kept), np.concatenate(chosen), sum(num_broken)


def _chunk(records: Records, filters: Mapping[str, Filter], by_field: HeldOutRule | None, start: int) -> Chunk:
    rows = range(start, min(start + CHUNK, len(records)))
    kept_B, chosen_B = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    num_broken = 0
    edge_P = records.part_edges()
    starts = {rows.start, *edge_P[(edge_P > rows.start) & (edge_P < rows.stop)].tolist()}
    for place, row in enumerate(rows):
        if row in starts:  # one part at a time
            records.expect([range(row, int(edge_P[np.searchsorted(edge_P, row, side="right")]))])
        try:
            kept_B[place] = all(meets(records.field(row, name), condition) for name, condition in filters.items())
            if by_field is not None and by_field.field:
                chosen_B[place] = is_one_of(records.field(row, by_field.field), by_field.values)
        except BadSampleError:
            num_broken += 1
    return kept_B, chosen_B, num_broken


def _rules(records: Records, location: Location) -> dict[str, str]:
    """Return digests of what a selection depends on, by the name in error messages."""
    filters = {name: [c.min, c.max, c.any_of] for name, c in sorted(location.filters.items())}
    rules = {"filters": json.dumps(filters), "exclude": excluded_digest(location), "the samples": records.digest()}
    if isinstance(location, SourceDescription):
        held_out = location.held_out
        rule = (
            [held_out.fraction, held_out.field, held_out.values] if held_out else [MAX_HELD_OUT, MAX_HELD_OUT_FRACTION]
        )
        rules["held_out"] = json.dumps(rule)
        rules["the fields of captions"] = json.dumps([location.short, location.dense, location.questions])
    return rules


def require_field(records: Records, key: str, name: str) -> None:
    """Raise a UsageError for a field that no sample has, which is most often misspelt."""
    if others := records.other_fields(name):
        raise UsageError(f"{key}: no sample has the field {name!r}; there are {others}")


def meets(value: Any, condition: Filter) -> bool:
    """True if the value of a field meets a condition. Text that is a number is compared as a number."""
    if value is None or (condition.any_of is not None and not is_one_of(value, condition.any_of)):
        return False
    if condition.min is None and condition.max is None:
        return True
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    lowest = -math.inf if condition.min is None else condition.min
    highest = math.inf if condition.max is None else condition.max
    return lowest <= number <= highest


def is_one_of(value: Any, allowed: tuple[str | int | float | bool, ...]) -> bool:
    """True if a value is among those of a description; text, as in CSV files, may be that of a number."""
    return any(_is(value, option) for option in allowed)


def _is(value: Any, option: str | int | float | bool) -> bool:
    if isinstance(value, str) and not isinstance(option, str):
        return value == (str(option).lower() if isinstance(option, bool) else str(option))
    return isinstance(value, bool) == isinstance(option, bool) and bool(value == option)
