"""Files of many finished runs, read at once. Polars is imported where it reads: committed records need none of it."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from aimv2.analysis.inference.items import Parts, Run, influence
from aimv2.base.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

CURVE_COLUMNS = ("step", "samples", "train_flops", "seconds")
HELD_OUT = "held_out_"
BLOCK = 100  # files that a thread takes at once: a task for each would cost as much as its file

Columns = tuple[tuple[str, "pl.DataType"], ...]
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(read: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return ``read`` of each item, in order. Threads wait for files, which takes longest on a shared file system."""
    blocks = [items[start : start + BLOCK] for start in range(0, len(items), BLOCK)]
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda block: [read(item) for item in block], blocks)
        return [one for block in found for one in block]


def scan_rows(files: Mapping[Run, Path]) -> "pl.LazyFrame":
    """Return the rows of every step of these runs, with ``arm``, ``seed`` and the ``place`` of the run among these.

    Nothing is read yet but the names of columns.
    Runs differ in their columns, as objectives do; a column that a run lacks is null there.

    Args:
        files: by arm and seed, the ``metrics.parquet`` of a run.

    Raises:
        UsageError: a file is missing or broken.
    """
    import polars as pl

    paths = list(dict.fromkeys(files.values()))
    by_columns: dict[Columns, list[Path]] = {}
    for path, columns in zip(paths, in_threads(partial(_columns, {}), paths), strict=True):
        by_columns.setdefault(columns, []).append(path)
    scans = [
        pl.scan_parquet(paths, schema=dict(columns), include_file_paths="path") for columns, paths in by_columns.items()
    ]
    owners = pl.LazyFrame(
        [(str(path), arm, seed, place) for place, ((arm, seed), path) in enumerate(files.items())],
        schema={"path": pl.String, "arm": pl.String, "seed": pl.Int64, "place": pl.Int32},
        orient="row",
    )
    empty = pl.LazyFrame(schema={"path": pl.String})
    rows = pl.concat([empty, *scans], how="diagonal_relaxed")
    return rows.join(owners, on="path", how="inner").drop("path")


def _columns(known: dict[str, Columns], path: Path) -> Columns:
    """Return the names and types of a file's columns.

    To read the metadata takes a third of the time that polars takes to derive columns, and most runs have the same.

    Args:
        known: columns by Arrow's schema in the metadata, which determines them; new ones are added.
    """
    import polars as pl
    from polars.exceptions import PolarsError

    try:
        schema = pl.read_parquet_metadata(path).get("ARROW:schema")
        if schema is None:
            return tuple(pl.read_parquet_schema(path).items())
        if schema not in known:
            known[schema] = tuple(pl.read_parquet_schema(path).items())
    except (OSError, PolarsError) as error:
        raise _broken(path) from error
    return known[schema]


def held_out_rows(rows: "pl.LazyFrame") -> pd.DataFrame:
    """Return the steps of ``scan_rows`` at which held-out values were measured, in the order of the runs."""
    import polars as pl

    held_out = [name for name in rows.collect_schema() if name.startswith(HELD_OUT)]
    if not held_out:
        return pd.DataFrame()
    measured = rows.filter(pl.any_horizontal(pl.col(held_out).is_not_null()))
    chosen = measured.select("arm", "seed", *CURVE_COLUMNS, *held_out, "place")
    return chosen.collect().sort("place", "step").drop("place").to_pandas()


def read_items(files: Mapping[Run, Path], metric: str) -> Parts:
    """Return each evaluation item's part in a metric, by run; runs without the metric are left out.

    Args:
        files: by arm and seed, the ``items.parquet`` of a run.

    Raises:
        UsageError: a file is broken.
    """
    import polars as pl
    from polars.exceptions import PolarsError

    if not files:
        return {}
    paths = list(dict.fromkeys(map(str, files.values())))
    try:
        scan = pl.scan_parquet(paths, include_file_paths="path").filter(pl.col("metric") == metric)
        rows = scan.select("path", "item", pl.col("total", "weight").cast(pl.Float64)).collect()
    except (OSError, PolarsError) as error:
        raise next(
            (_broken(path) for path in files.values() if not _is_readable(path)), _broken(Path(paths[0]))
        ) from error
    parts = {}
    for (path,), table in rows.partition_by("path", as_dict=True, include_key=False).items():
        sums = table.group_by("item", maintain_order=True).sum().sort("item")
        values = influence(sums["total"].to_numpy(), sums["weight"].to_numpy())
        parts[str(path)] = pd.Series(values, index=sums["item"].to_numpy())
    return {run: parts[str(path)] for run, path in files.items() if str(path) in parts}


def check_readable(tables: Sequence[Path]) -> None:
    """Read the metadata of these Parquet files, which torn and overwritten ones lack.

    Raises:
        UsageError: naming the first that has none.
    """
    import polars as pl
    from polars.exceptions import PolarsError

    for path in tables:
        try:
            pl.read_parquet_metadata(path)
        except (OSError, PolarsError) as error:
            raise _broken(path) from error


def _broken(path: Path) -> UsageError:
    return UsageError(f"{path} cannot be read; delete the run's folder to repeat the run")


def _is_readable(path: Path) -> bool:
    import polars as pl
    from polars.exceptions import PolarsError

    try:
        pl.read_parquet_schema(path)
    except (OSError, PolarsError):
        return False
    return True
