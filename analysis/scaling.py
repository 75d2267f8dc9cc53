"""python analysis/scaling.py fit FILE n=… d=… loss=…: a scaling law from a table of runs of any source."""

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

if __name__ == "__main__":  # typed as a path: the packages beside it are meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from aimv2.analysis.document.model import Document, Section
from aimv2.analysis.document.style import style
from aimv2.analysis.document.write import check_replaceable, show
from aimv2.analysis.inference.scaling_law import FitError, Variable, assess
from aimv2.analysis.sections.scaling import Fitted, conclusion, law_blocks, law_figure, law_numbers
from aimv2.analysis.usage import FitOptions, scaling_usage
from aimv2.base.errors import UsageError, escape, unknown
from aimv2.config.arguments import HELP, as_typed, guarded, read_options, script_of

FIRST_LINE = 2  # of a text file that has values, at least
EXACT = 2.0**53  # below, floats that are whole numbers are exact
LARGEST = 1e150  # whose square is still a number
PARQUET = (".parquet", ".pq")


def main(arguments: Sequence[str]) -> int:
    """Fit a law; the exit status is 0 when it is printed and 2 when that is not possible."""
    if not arguments or HELP & set(arguments):
        print(scaling_usage(), end="")
        return 0 if arguments else 2
    return guarded(_fit, arguments, as_typed("scaling"))


def script() -> int:
    """The console script."""
    return script_of(main)


def _fit(arguments: Sequence[str]) -> int:
    if arguments[0] != "fit":
        raise unknown("command", arguments[0], ["fit"])
    if len(arguments) < 2 or "=" in arguments[1]:
        raise UsageError(f"which file? Type {as_typed('scaling')} fit FILE n=COLUMN d=COLUMN loss=COLUMN")
    options = read_options(FitOptions, arguments[2:])
    if options.out:
        check_replaceable(Path(options.out))
    show(report(Path(arguments[1]), options), options.out, export=options.export)
    return 0


def report(path: Path, options: FitOptions) -> Document:
    """Return the report on a file of runs."""
    columns = options.columns
    variables: list[Variable] = [name for name in ("n", "d") if name in columns]
    if not variables:
        raise UsageError("which variable? Type n=COLUMN (size), d=COLUMN (samples or tokens), or both")
    runs = read_columns(path, columns)
    for name in runs.columns.drop("seed", errors="ignore"):
        runs[name] = numbers(path, runs[name], columns[name], positive=True)
    if "flops" not in runs and len(variables) > 1:
        runs["flops"] = 6 * runs["n"] * runs["d"]
    try:
        law = assess(runs, variables, huber=options.huber)
    except FitError as error:
        raise UsageError(f"no law can be fitted to {path}: {error}") from error
    labels = {name: columns[name] for name in (*variables, "loss")}
    meanings = {"L" if name == "loss" else name: f'column "{column}"' for name, column in labels.items()}
    fitted = Fitted(law, labels, meanings)
    with style():
        figure = law_figure(fitted)
    return Document(
        title=f"Scaling law of {escape(path.name)}",
        subtitle=f"{len(runs)} runs, {len(runs[variables].drop_duplicates())} settings.",
        answer=conclusion(fitted),
        lead=figure,
        sections=[Section("Scaling law", law_blocks(fitted))],
        numbers=law_numbers(fitted),
    )


def read_columns(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """Return columns of a file as text without spaces around it; a missing value is empty.

    Args:
        columns: columns of the file by our names, which are those of the arguments that name them.

    Raises:
        UsageError: the file is no table, it has no rows, or a column is missing or there twice.
    """
    table = _parquet(path) if path.suffix in PARQUET else _text(path)
    names = list(map(str, table.columns))
    for name, column in columns.items():
        if (number := names.count(column)) != 1:
            problem = "several columns" if number else "no column"
            raise UsageError(f"{path} has {problem} {column!r}, typed as {name}=. It has: {', '.join(names)}.")
    if table.empty:
        raise UsageError(f"{path} has no rows")
    return pd.DataFrame({name: _as_text(table.iloc[:, names.index(column)]) for name, column in columns.items()})


def _text(path: Path) -> pd.DataFrame:
    """Read a CSV or TSV file; all values are text, and the index is that of ``place_of``."""
    separator = "\t" if path.suffix == ".tsv" else ","
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=separator, skipinitialspace=True)
            lines = [(reader.line_num - FIRST_LINE, row) for row in reader if row]
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as CSV: {error}") from error
    if not lines:
        raise UsageError(f"{path} cannot be read as CSV: it is empty")
    (_, header), *rows = lines
    for number, row in rows:
        if len(row) != len(header):
            raise UsageError(f"{place_of(path, number)}: {len(row)} values, and the header has {len(header)} columns")
    return pd.DataFrame([row for _, row in rows], [number for number, _ in rows], header, dtype=str)


def _parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet file; an index that has a name is a column."""
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UsageError(f"{path} cannot be read as Parquet: {error}") from error
    named = [name for name in table.index.names if name is not None and name not in table]
    return table.reset_index(level=named).reset_index(drop=True) if named else table.reset_index(drop=True)


def _as_text(column: "pd.Series[Any]") -> "pd.Series[str]":
    if pd.api.types.is_float_dtype(column):
        known = column.dropna()
        if (known % 1 == 0).all() and (known.abs() < EXACT).all():  # whole numbers beside missing ones
            column = column.astype("Int64")
    return column.astype("string").fillna("").astype(str).str.strip()


def numbers(path: Path, texts: "pd.Series[str]", column: str, *, positive: bool = False) -> "pd.Series[float]":
    """Return the texts of a column as numbers; ``column`` is the file's name for it.

    Raises:
        UsageError: a text is not a finite number up to LARGEST, or not a positive one.
    """
    values = pd.to_numeric(texts, errors="coerce").astype(float)
    kind = "a positive number" if positive else "a number"
    wrong = ~(values.abs() <= LARGEST) | (positive & ~(values > 0))
    if wrong.any():
        place = int(np.argmax(wrong))
        row = int(texts.index[place])  # in the file, as rows without a value may be left out
        raise UsageError(
            f"{place_of(path, row)}: {column} is {texts.iloc[place]!r}, which is not {kind} up to {LARGEST:g}"
        )
    return values


def place_of(path: Path, row: int) -> str:
    """Return where a row of a table stands in its file."""
    return f"{path}, row {row + 1}" if path.suffix in PARQUET else f"{path}, line {row + FIRST_LINE}"


if __name__ == "__main__":
    sys.exit(script())
