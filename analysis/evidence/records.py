"""A study's records: all that its report needs, in one small Parquet file that can be committed.

The file has a row per requested run, with its metrics, curve and mixture as lists of structs, so that any reader of
Parquet can use it. The request, the look, the examples, the licences and the search are JSON in the file's metadata.
The same records give the same bytes with the same version of Arrow.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aimv2.ablations.recorded_runs import FILE
from aimv2.ablations.request import Request, request_from_json, request_to_json, union
from aimv2.ablations.searches import Search, path_of, read_search, search_from_json, search_to_json
from aimv2.ablations.studies.sensitivity import SENSITIVITY
from aimv2.ablations.study import Study
from aimv2.analysis.evidence.run_files import load
from aimv2.analysis.evidence.tables import (
    BILL_COLUMNS,
    CELL,
    METRIC_COLUMNS,
    MISSING_COLUMNS,
    MIXTURE_COLUMNS,
    Evidence,
)
from aimv2.analysis.inference.items import ItemMoments, Run, runs_index
from aimv2.analysis.inference.looks import Look, look, looks_path
from aimv2.base.errors import UsageError, short, some
from aimv2.definitions.metrics import is_retired

VERSION = 1
KEY = b"aimv2_records"  # of the metadata
TABLES: Mapping[str, list[str]] = {  # nested columns, with their own columns if they are empty
    "metrics": METRIC_COLUMNS,
    "not_applicable": METRIC_COLUMNS,
    "curves": [],
    "mixture": MIXTURE_COLUMNS,
}
MISSING = ["reason", "has_failed"]
BILL_TYPES = {"attempts": int, **dict.fromkeys(("seconds", "gpu_hours", "core_hours"), float)}
ITEMS = "item_covariances"
PLACES = ("runs_dir=", "reports_dir=", "data.cache_dir=", "price=")  # arguments that do not say what
# Of a file, which others may have written; bytes are those of its JSON, and those that it unpacks to.
MAX_RUNS, MAX_VALUES, MAX_JSON, MAX_BYTES = 100_000, 2 * 10**7, 2**26, 2**31
MAX_LOOKS = 64
OF_RUNS = ("run", "samples", "train_flops", "seconds", "hardware", "code", "metrics")  # columns if a run is finished
TEXTS = (  # columns, also of tables in columns, that are no numbers
    *("arm", "run", "reason", "precision", "hardware", "began", "code", "commit", "torch"),
    *("metric", "than_metric", "unit", "evaluation", "warning", "source"),
)
BROKEN = (  # what reading a broken file raises
    *(pa.ArrowException, OSError, KeyError, TypeError, ValueError, AttributeError, IndexError),
    *(OverflowError, RecursionError),
)
MARKUP = re.compile(r"[<>`|\\]|\][\[(:]")  # of HTML, code, tables and links


@dataclass(frozen=True, eq=False)
class Records:
    """What a report is made of."""

    request: Request
    evidence: Evidence
    look: Look
    search: Search | None = None  # that whose winner the runs confirm


def records_of(request: Request, runs_dir: Path) -> Records:
    """Return the records of the requested runs, and record the look at them, but for a search that compares nothing.

    Raises:
        UsageError: the record of looks cannot be written, or a result or the record of a search cannot be read.
    """
    search = read_search(path_of(runs_dir, request.folder)) if request.study.is_search else None
    evidence = load(request.cells, runs_dir)
    compared = evidence.runs[evidence.runs["arm"].isin(list(request.study.arms))]
    if request.study.is_search and compared["arm"].nunique() < 2:
        compared = compared[:0]
    this_look = look(looks_path(runs_dir, request.folder), compared["seed"].tolist(), compared["run"].tolist())
    return Records(without_places(request), evidence, this_look, search)


def without_places(request: Request) -> Request:
    """Return a request without the places of this machine, which change no result."""
    cells = [replace(cell, config=cell.config.without_places()) for cell in request.cells]
    arguments = tuple(word for word in request.arguments if not word.startswith(PLACES))
    return replace(request, cells=cells, arguments=arguments)


def pack(records: Records) -> bytes:
    """Return the content of the file. Items are kept for the differences that reports and verdicts take."""
    request, evidence = records.request, records.evidence
    cells = [(cell.arm, cell.seed) for cell in request.cells]
    columns: dict[str, Any] = {name: list(values) for name, values in zip(CELL, zip(*cells, strict=True), strict=True)}
    columns |= _columns(evidence.runs, cells) | _columns(evidence.missing[CELL + MISSING], cells)
    columns["run"] = [cell.name for cell in request.cells]
    tables = {name: getattr(evidence, name) for name in TABLES}
    tables[ITEMS] = _covariance_rows(evidence.items.only(compared_metrics(request.study, evidence)))
    columns |= {name: _nested(table, cells) for name, table in tables.items() if len(table)}
    images = list(dict.fromkeys(example["png"] for examples in evidence.examples.values() for example in examples))
    about = {
        "version": VERSION,
        "request": request_to_json(request),
        "look": {"number": records.look.number, "earlier": records.look.earlier},
        "examples": {
            arm: [example | {"png": images.index(example["png"])} for example in examples]
            for arm, examples in evidence.examples.items()
        },
        "images": images,
        "credits": evidence.credits,
    }
    if len(evidence.bill):
        about["bill"] = json.loads(evidence.bill.to_json(orient="values", double_precision=6))
    if records.search is not None:
        about["search"] = search_to_json(records.search)
    text = json.dumps(about, ensure_ascii=False, separators=(",", ":"))
    table, sink = pa.table(columns), pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="zstd", compression_level=19) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({KEY: text})  # the schema's own metadata would be written twice
    return bytes(sink.getvalue())


def _columns(table: pd.DataFrame, cells: Sequence[Run]) -> dict[str, pa.ChunkedArray]:
    """Return the columns of a table with at most one row per run, null for runs without one."""
    place_of = {run: place for place, run in enumerate(zip(table["arm"], table["seed"], strict=True))}
    places = pa.array([place_of.get(run) for run in cells], pa.int64())
    columns = pa.Table.from_pandas(table.drop(columns=CELL), preserve_index=False)
    return dict(zip(columns.column_names, columns.take(places).columns, strict=True))


def _nested(table: pd.DataFrame, cells: Sequence[Run]) -> pa.ListArray:
    """Return the rows of each run as a list of structs."""
    place_of = {run: place for place, run in enumerate(cells)}
    places = np.array([place_of[run] for run in zip(table["arm"], table["seed"], strict=True)])
    ordered = table.iloc[np.argsort(places, kind="stable")].drop(columns=CELL)
    rows = pa.Table.from_pandas(ordered, preserve_index=False).to_struct_array().combine_chunks()
    offsets = accumulate(np.bincount(places, minlength=len(cells)).tolist(), initial=0)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), rows)


def _covariance_rows(items: ItemMoments) -> pd.DataFrame:
    """Return a row per pair of metrics and run, with the run's covariances with all runs of the other metric.

    Those of a metric with itself end with the run's own, because the rest is symmetric.
    """
    rows = []
    for (metric, other), covariance in items.known.items():
        num_items = items.num_items(metric)
        for place, (run, values) in enumerate(zip(covariance.index, covariance.to_numpy(), strict=True)):
            stored = values[: place + 1] if metric == other else values
            rows.append((*run, metric, other, num_items[run], stored))
    return pd.DataFrame(rows, columns=[*CELL, "metric", "than_metric", "num_items", "covariance"])


def compared_metrics(study: Study, evidence: Evidence) -> list[tuple[str, str]]:
    """Return the pairs of metrics whose differences cover evaluation items.

    They are each metric that decides, with itself, and those that a claim compares. The sensitivity study judges every
    metric.
    """
    is_sensitivity = study.slug == SENSITIVITY.slug and not study.is_search
    metrics = evidence.metrics["metric"].unique() if is_sensitivity else study.deciding_metrics
    expected = [expectation for expectations in study.claims.values() for expectation in expectations]
    pairs = [*((metric, metric) for metric in metrics), *((one.metrics[0], one.metrics[-1]) for one in expected)]
    return list(dict.fromkeys(pairs))


def unpack(packed: bytes, studies: Mapping[str, Study], name: str = FILE) -> Records:
    """Return the records of a file's content.

    Args:
        studies: the catalogue.
        name: of the file, for the message of an error.

    Raises:
        UsageError: the content is broken, too large, of another version, of a study that is not in the catalogue, or
            has a run whose name is not that of its config.
    """
    try:
        table, about = _table(packed, name)
        if about["version"] != VERSION:
            raise UsageError(f"{name} has records of version {about['version']!r}, and this code reads {VERSION}")
        return _records(table, about, studies, name)
    except UsageError:
        raise
    except BROKEN as error:
        raise UsageError(f"{name} is not a file of records; write the report again from its runs") from error


def _table(packed: bytes, name: str) -> tuple[pa.Table, dict[str, Any]]:
    """Return the table and the description in a file, which others may have written to take all memory."""
    file = pq.ParquetFile(pa.BufferReader(packed))
    file.scan_contents()  # raises where a broken description of a column would end the interpreter below
    about, schema, text = file.metadata, file.schema_arrow, (file.metadata.metadata or {}).get(KEY, b"")
    groups = [about.row_group(number) for number in range(min(about.num_row_groups, MAX_RUNS))]
    values = sum(max((group.column(i).num_values for i in range(group.num_columns)), default=0) for group in groups)
    num_bytes = sum(group.total_byte_size for group in groups)
    is_small = max(about.num_rows, about.num_row_groups) <= MAX_RUNS and values <= MAX_VALUES
    if is_small and num_bytes <= MAX_BYTES and len(text) <= MAX_JSON:
        # Each text once, since a few bytes of the file may say that it stands in every row.
        leaves = [file.schema.column(number) for number in range(len(file.schema))]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        table = pq.ParquetFile(pa.BufferReader(packed), read_dictionary=texts).read()
        if sum(_text_bytes(chunk) for column in table.columns for chunk in column.chunks) <= MAX_BYTES:
            if wrong := [field.name for field in schema if not _is_column(field)]:
                raise UsageError(f"{name}: {some(list(map(short, wrong)))}: no column of records, or of another kind")
            return table.cast(schema), json.loads(text)
    raise UsageError(
        f"{name} is too large for records: at most {MAX_RUNS:,} runs, {MAX_VALUES:,} values of a column and"
        f" {MAX_BYTES:,} bytes are read"
    )


def _text_bytes(array: pa.Array) -> int:
    """Return the bytes of the texts in a column, of which each is stored once."""
    if pa.types.is_list(array.type):
        return _text_bytes(array.flatten())
    if pa.types.is_struct(array.type):
        return sum(map(_text_bytes, array.flatten()))
    if not pa.types.is_dictionary(array.type):
        return 0
    return int(pc.sum(pc.binary_length(array.dictionary).take(array.indices)).as_py() or 0)


def _is_column(field: pa.Field) -> bool:
    """True for a column of records of its kind, or without any value; tables are lists of structs."""
    kind = field.type
    if field.name in (*TABLES, ITEMS) and pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        return all(map(_is_column, kind.value_type))
    kind = kind.value_type if field.name == "covariance" and pa.types.is_list(kind) else kind
    if field.name in TEXTS:
        is_right = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    elif field.name == "has_failed":
        is_right = pa.types.is_boolean(kind)
    else:
        is_right = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return bool(is_right or pa.types.is_null(kind))


def _records(table: pa.Table, about: Mapping[str, Any], studies: Mapping[str, Study], name: str) -> Records:
    request = request_from_json(about["request"], studies, name)
    cells = list(zip(*(table[column].to_pylist() for column in CELL), strict=True))
    names = table["run"].to_pylist()
    if [(*cell, run) for cell, run in zip(cells, names, strict=True)] != [
        (cell.arm, cell.seed, cell.name) for cell in request.cells
    ]:
        raise ValueError("other runs than the request's")
    if not re.fullmatch(r"[\w-]+", request.folder):  # a folder of that name will be written
        raise ValueError("a name that no report has")
    _check_no_markup(request.study, studies[request.study.slug], name)
    nested = {column: _flat(table[column], cells) for column in (*TABLES, ITEMS) if column in table.column_names}
    for column in nested.keys() & {"metrics", "not_applicable"}:
        is_kept = ~nested[column]["metric"].map(is_retired).astype(bool)
        nested[column] = nested[column][is_kept].reset_index(drop=True)
    is_missing = pc.is_valid(table["reason"])
    lacking = [column for column in OF_RUNS if column not in table.column_names]
    if lacking and not pc.all(is_missing).as_py():
        raise UsageError(f"{name} lacks columns of records: {some(lacking)}")
    if "metrics" in nested and nested["metrics"].duplicated([*CELL, "metric"]).any():
        raise ValueError("a metric of a run twice")
    flat = [column for column in table.column_names if column not in {*nested, *MISSING}]
    bill = [row[: len(BILL_COLUMNS)] for row in about.get("bill", [])]  # older rows end with money and its currency
    images = about["images"]
    for image in images:
        base64.b64decode(image, validate=True)
    evidence = Evidence(
        runs=table.select(flat).filter(pc.invert(is_missing)).to_pandas(),
        missing=table.select(MISSING_COLUMNS).filter(is_missing).to_pandas(),
        examples={
            arm: [example | {"png": images[example["png"]]} for example in examples]
            for arm, examples in about["examples"].items()
        },
        items=_moments(nested.pop(ITEMS)) if ITEMS in nested else ItemMoments(),
        **{column: nested.get(column, pd.DataFrame(columns=names)) for column, names in TABLES.items()},
        bill=pd.DataFrame(bill, columns=BILL_COLUMNS).astype(BILL_TYPES),
        credits={kind: [str(line) for line in about["credits"][kind]] for kind in ("sources", "sets")},
    )
    if not 1 <= int(about["look"]["number"]) <= MAX_LOOKS:
        raise ValueError("no number of a look")
    compared = evidence.runs[evidence.runs["arm"].isin(list(request.study.arms))]
    earlier = tuple(tuple(map(int, seeds)) for seeds in about["look"]["earlier"])
    look = Look(int(about["look"]["number"]), int(compared["seed"].nunique()), earlier)
    search = search_from_json(about["search"], name) if "search" in about else None
    if (None if search is None else search.study) != (request.study.slug if request.study.is_search else None):
        raise ValueError("a search of another study, or none")
    return Records(request, evidence, look, search)


def _check_no_markup(study: Study, known: Study, name: str) -> None:
    """Refuse text that a study has from its records, not from the catalogue, and that pages would show as markup."""
    arms = {
        arm: study.label(arm) for arm in study.arms if arm not in known.arms or study.label(arm) != known.label(arm)
    }
    shown = [*arms, *arms.values(), *study.notes, *study.stand_ins, *study.stand_ins.values()]
    if text := next((text for text in shown if MARKUP.search(text) or not text.isprintable()), ""):
        raise UsageError(f"{name}: {short(text)} is not plain text, and would be shown as markup")


def _flat(column: pa.ChunkedArray, cells: Sequence[Run]) -> pd.DataFrame:
    """Return a nested column as a table, with arm and seed."""
    lists = column.combine_chunks()
    owners = [cells[place] for place in pc.list_parent_indices(lists).to_pylist()]
    rows: pd.DataFrame = pa.Table.from_struct_array(lists.flatten()).to_pandas()
    rows.insert(0, "arm", [arm for arm, _ in owners])
    rows.insert(1, "seed", [seed for _, seed in owners])
    return rows


def _moments(rows: pd.DataFrame) -> ItemMoments:
    """Return the moments of these rows, as ``_covariance_rows`` returns them."""
    values: dict[tuple[str, str], list[np.ndarray]] = {}
    num_items: dict[str, pd.Series[int]] = {}
    for (metric, other), of_pair in rows.groupby(["metric", "than_metric"], sort=False):
        values[str(metric), str(other)] = of_pair["covariance"].tolist()
        runs = runs_index(zip(of_pair["arm"], of_pair["seed"], strict=True))
        num_items[str(metric)] = pd.Series(of_pair["num_items"].to_numpy(), runs)
    known = {
        (metric, other): pd.DataFrame(
            _symmetric(found) if metric == other else np.stack(found), num_items[metric].index, num_items[other].index
        )
        for (metric, other), found in values.items()
    }
    return ItemMoments.of(known, num_items)


def _symmetric(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return a symmetric matrix from the rows of its lower triangle."""
    matrix = np.empty((len(rows), len(rows)))
    for place, row in enumerate(rows):
        matrix[place, : place + 1] = matrix[: place + 1, place] = row
    return matrix


def packed_records(path: Path) -> bytes:
    """Return the content of a file of records; UsageError if there is none."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"the records {path} cannot be read: {error.strerror}") from error


def read_records(path: Path, studies: Mapping[str, Study]) -> Records:
    """Return the records of a file; UsageError if it is missing, or as in ``unpack``."""
    return unpack(packed_records(path), studies, str(path))


def join(earlier: Records, later: Records) -> Records:
    """Return the records of two launches as one, with the study and the arguments of the later.

    Runs count as in ``ablations.request.union``: those with the baseline of the later launch, without arms that were
    defined otherwise, and each once. Runs of different code are one study if each seed has one code, because then every
    difference within a seed is one of arms. Both launches were looks.
    """
    request = union([later.request, earlier.request], later.request.cells)
    names = {cell.name for cell in later.request.cells}
    arm_of = {cell.name: cell.arm for cell in request.cells if cell.name not in names}
    # Untrained encoders can have other names in the earlier launch.
    arms = {(cell.arm, cell.seed): arm_of[cell.name] for cell in earlier.request.cells if cell.name in arm_of}
    before, after = earlier.evidence, later.evidence
    tables = {
        name: pd.concat([_of_runs(getattr(before, name), arms), getattr(after, name)], ignore_index=True)
        for name in ("runs", "missing", *TABLES)
    }
    evidence = replace(
        after,
        **tables,
        bill=pd.concat([before.bill, after.bill], ignore_index=True),
        examples=before.examples | after.examples,
        items=ItemMoments.joined(before.items.of_runs(arms), after.items),
    )
    if evidence.runs.groupby("seed")["code"].nunique().max() == 1:
        request = replace(request, study=replace(request.study, allow_mixed_code=True))
    seeds = tuple(sorted({seed for _, seed in arms}))
    num_seeds = len({*seeds, *later.evidence.runs["seed"]})
    look = Look(earlier.look.number + later.look.number, num_seeds, (*earlier.look.earlier, seeds, *later.look.earlier))
    return replace(later, request=request, evidence=evidence, look=look)


def _of_runs(table: pd.DataFrame, arms: Mapping[Run, str]) -> pd.DataFrame:
    """Return the rows of these runs, with their arms renamed."""
    runs = list(table[CELL].itertuples(index=False, name=None))
    return table[[run in arms for run in runs]].assign(arm=[arms[run] for run in runs if run in arms])
