"""A study's records: all that its report needs, in one small Parquet file that can be committed.

The file has a row per requested run, with its metrics, curve and mixture as lists of structs, so that any reader of
Parquet can use it. The request, the look, the examples, the licences and the search are JSON in the file's metadata.
The same records give the same bytes with the same version of Arrow.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from arro3.core import Table

from aimv2.ablations.request import Request, request_from_json, request_to_json
from aimv2.ablations.searches import Search, search_from_json, search_to_json
from aimv2.ablations.studies.sensitivity import STUDY as SENSITIVITY
from aimv2.ablations.study import Study
from aimv2.analysis.evidence.load import BILL_COLUMNS, METRIC_COLUMNS, MISSING_COLUMNS, MIXTURE_COLUMNS, Evidence
from aimv2.analysis.evidence.parquet import BrokenParquetError, frame, nested_frame, read_table
from aimv2.analysis.evidence.recorded import FILE
from aimv2.analysis.inference.items import ItemMoments, Run, runs_index
from aimv2.analysis.inference.looks import Look
from aimv2.base.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
KEY = b"aimv2_records"  # of the metadata
CELL = ["arm", "seed"]
TABLES: Mapping[str, list[str]] = {  # nested columns, with their own columns if they are empty
    "metrics": METRIC_COLUMNS,
    "not_applicable": METRIC_COLUMNS,
    "curves": [],
    "mixture": MIXTURE_COLUMNS,
}
MISSING = ["reason", "has_failed"]
BILL_TYPES = {"attempts": int, **dict.fromkeys(("seconds", "gpu_hours", "core_hours"), float)}
ITEMS = "item_covariances"


@dataclass(frozen=True, eq=False)
class Records:
    """What a report is made of.

    Attributes:
        search: that whose winner the runs confirm; None for other studies.
    """

    request: Request
    evidence: Evidence
    look: Look
    search: Search | None = None


def pack(records: Records) -> bytes:
    """Return the content of the file. Items are kept for the differences that reports and verdicts take."""
    import pyarrow as pa  # here, because reading needs no pyarrow
    import pyarrow.parquet as pq

    request, evidence = records.request, records.evidence
    cells = [(cell.arm, cell.seed) for cell in request.cells]
    columns: dict[str, Any] = {name: list(values) for name, values in zip(CELL, zip(*cells, strict=True), strict=True)}
    columns |= _columns(evidence.runs, cells) | _columns(evidence.missing[CELL + MISSING], cells)
    columns["run"] = [cell.name for cell in request.cells]
    tables = {name: getattr(evidence, name) for name in TABLES}
    columns |= {name: _nested(table, cells) for name, table in tables.items() if len(table)}
    if len(covariances := _covariance_rows(evidence.items.only(compared_metrics(request.study, evidence)))):
        columns[ITEMS] = _nested(covariances, cells)
    images = list(dict.fromkeys(one["png"] for examples in evidence.examples.values() for one in examples))
    about = {
        "version": VERSION,
        "request": request_to_json(request),
        "look": {"number": records.look.number, "earlier": records.look.earlier},
        "examples": {
            arm: [one | {"png": images.index(one["png"])} for one in examples]
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


def unpack(packed: bytes, studies: Mapping[str, Study], name: str = FILE) -> Records:
    """Return the records of a file's content.

    Args:
        studies: the catalogue.
        name: of the file, for the message of an error.

    Raises:
        UsageError: the content is broken, of another version, or of a study that is not in the catalogue.
    """
    try:
        table = read_table(packed)
        about = json.loads(table.schema.metadata[KEY])
        version = about["version"]
        if version == VERSION:
            return _records(table, about, studies, name)
    except UsageError:
        raise
    except (BrokenParquetError, OSError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UsageError(f"{name} is not a file of records; write the report again from its runs") from error
    raise UsageError(f"{name} has records of version {version!r}, and this code reads version {VERSION}")


def read_records(path: Path, studies: Mapping[str, Study]) -> Records:
    """Return the records of a file.

    Raises:
        UsageError: the file is missing, or as in ``unpack``.
    """
    return unpack(_bytes(path), studies, str(path))


def packed_records(reports_dir: Path, name: str) -> bytes:
    """Return the content of the records beside a report.

    Raises:
        UsageError: there are none.
    """
    return _bytes(reports_dir / name / FILE)


def check_publishable(packed: bytes, before: bytes | None, studies: Mapping[str, Study]) -> None:
    """Refuse records that show less than those that are published, or other runs.

    Raises:
        UsageError: an arm has fewer seeds than before, or another config.
    """
    if before is None:
        return
    new, old = (unpack(one, studies) for one in (packed, before))
    configs, published = _configs(new), _configs(old)
    if other := [arm for arm, config in published.items() if configs.get(arm, config) != config]:
        raise UsageError(
            f"these arms have other configs than in the published report: {', '.join(other)}; delete the published one"
            " first, or give the new one a name of its own with sweep.suffix=NAME"
        )
    seeds = _seeds(new)
    if fewer := [
        f"{arm} ({seeds.get(arm, 0)} of {had})" for arm, had in _seeds(old).items() if seeds.get(arm, 0) < had
    ]:
        raise UsageError(
            f"these arms have fewer seeds than in the published report: {', '.join(fewer)}; sweep.seeds=N adds seeds"
        )


def _configs(records: Records) -> dict[str, str]:
    """Return the name that each arm's run would have with seed 0."""
    configs = {cell.arm: cell.config for cell in records.request.cells}
    return {arm: config.with_seed(0).name for arm, config in configs.items()}


def _seeds(records: Records) -> dict[str, int]:
    """Return the number of finished seeds of each arm."""
    return {str(arm): int(seeds) for arm, seeds in records.evidence.runs.groupby("arm")["seed"].nunique().items()}


def compared_metrics(study: Study, evidence: Evidence) -> list[tuple[str, str]]:
    """Return the pairs of metrics whose differences cover evaluation items.

    They are each metric that decides, with itself, and those that a claim compares. The sensitivity study judges every
    metric.
    """
    is_sensitivity = study.slug == SENSITIVITY.slug and not study.is_search
    metrics = evidence.metrics["metric"].unique() if is_sensitivity else study.deciding_metrics
    expectations = [one for expectations in study.claims.values() for one in expectations]
    pairs = [*((metric, metric) for metric in metrics), *((one.metrics[0], one.metrics[-1]) for one in expectations)]
    return list(dict.fromkeys(pairs))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"the records {path} cannot be read: {error.strerror}") from error


def _records(table: Table, about: Mapping[str, Any], studies: Mapping[str, Study], name: str) -> Records:
    request = request_from_json(about["request"], studies, name)
    cells = list(zip(*(table[column].to_pylist() for column in CELL), strict=True))
    if cells != [(cell.arm, cell.seed) for cell in request.cells]:
        raise ValueError("other runs than the request's")
    if not re.fullmatch(r"[\w-]+", request.folder):  # a folder of that name will be written
        raise ValueError("a name that no report has")
    nested = {column: _flat(table, column, cells) for column in (*TABLES, ITEMS) if column in table.column_names}
    is_missing = [reason is not None for reason in table["reason"].to_pylist()]
    is_run = [not missing for missing in is_missing]
    flat = [column for column in table.column_names if column not in {*nested, *MISSING}]
    bill = [row[: len(BILL_COLUMNS)] for row in about.get("bill", [])]  # older rows end with money and its currency
    images = about["images"]
    for image in images:
        base64.b64decode(image, validate=True)
    tables = {column: nested.get(column, pd.DataFrame(columns=names)) for column, names in TABLES.items()}
    evidence = Evidence(
        runs=frame(table, flat, is_run),
        missing=frame(table, MISSING_COLUMNS, is_missing),
        examples={
            arm: [one | {"png": images[one["png"]]} for one in examples] for arm, examples in about["examples"].items()
        },
        items=_moments(nested.pop(ITEMS)) if ITEMS in nested else ItemMoments(),
        metrics=tables["metrics"],
        not_applicable=tables["not_applicable"],
        curves=tables["curves"],
        mixture=tables["mixture"],
        bill=pd.DataFrame(bill, columns=BILL_COLUMNS).astype(BILL_TYPES),
        credits={kind: [str(line) for line in about["credits"][kind]] for kind in ("sources", "sets")},
    )
    look = Look(int(about["look"]["number"]), tuple(tuple(map(int, seeds)) for seeds in about["look"]["earlier"]))
    search = search_from_json(about["search"], name) if "search" in about else None
    if (None if search is None else search.study) != (request.study.slug if request.study.is_search else None):
        raise ValueError("a search of another study, or none")
    return Records(request, evidence, look, search)


def _columns(table: pd.DataFrame, cells: Sequence[Run]) -> dict[str, "pa.ChunkedArray"]:
    """Return the columns of a table with at most one row per run, null for runs without one."""
    import pyarrow as pa

    place_of = {run: place for place, run in enumerate(zip(table["arm"], table["seed"], strict=True))}
    places = pa.array([place_of.get(run) for run in cells], pa.int64())
    columns = pa.Table.from_pandas(table.drop(columns=CELL), preserve_index=False)
    return dict(zip(columns.column_names, columns.take(places).columns, strict=True))


def _nested(table: pd.DataFrame, cells: Sequence[Run]) -> "pa.ListArray":
    """Return the rows of each run as a list of structs."""
    import pyarrow as pa

    place_of = {run: place for place, run in enumerate(cells)}
    places = np.array([place_of[run] for run in zip(table["arm"], table["seed"], strict=True)])
    ordered = table.iloc[np.argsort(places, kind="stable")].drop(columns=CELL)
    rows = pa.Table.from_pandas(ordered, preserve_index=False).to_struct_array().combine_chunks()
    offsets = accumulate(np.bincount(places, minlength=len(cells)).tolist(), initial=0)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), rows)


def _flat(table: Table, column: str, cells: Sequence[Run]) -> pd.DataFrame:
    """Return a nested column as a table, with arm and seed."""
    places, rows = nested_frame(table[column])
    owners = [cells[place] for place in places]
    rows.insert(0, "arm", [arm for arm, _ in owners])
    rows.insert(1, "seed", [seed for _, seed in owners])
    return rows


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


def _moments(rows: pd.DataFrame) -> ItemMoments:
    """Return the moments of these rows, as ``_covariance_rows`` returns them."""
    values: dict[tuple[str, str], list[np.ndarray]] = {}
    num_items: dict[str, pd.Series[int]] = {}
    for (metric, other), own in rows.groupby(["metric", "than_metric"], sort=False):
        values[str(metric), str(other)] = own["covariance"].tolist()
        runs = runs_index(zip(own["arm"], own["seed"], strict=True))
        num_items[str(metric)] = pd.Series(own["num_items"].to_numpy(), runs)
    known = {
        (metric, other): pd.DataFrame(
            _symmetric(found) if metric == other else np.stack(found), num_items[metric].index, num_items[other].index
        )
        for (metric, other), found in values.items()
    }
    return ItemMoments(known=known, num_items=num_items)


def _symmetric(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return a symmetric matrix from the rows of its lower triangle."""
    found = np.empty((len(rows), len(rows)))
    for place, row in enumerate(rows):
        found[place, : place + 1] = found[: place + 1, place] = row
    return found
