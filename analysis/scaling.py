"""python analysis/scaling.py fit FILE n=… d=… loss=…: a scaling law from a table of runs of any source."""

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

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

LARGEST = 1e150  # whose square is still a number


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
        runs[name] = positive_numbers(path, runs[name], columns[name])
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
    """Return columns of a file, by our names for them, as text without spaces around it; a missing value is empty. A
    UsageError if the file is no table or has no rows, or a column is missing or there twice."""
    table = _read(path)
    names = list(map(str, table.columns))
    for name, column in columns.items():
        if (number := names.count(column)) != 1:
            problem = "several columns" if number else "no column"
            raise UsageError(f"{path} has {problem} {column!r}, typed as {name}=. It has: {', '.join(names)}.")
    if table.empty:
        raise UsageError(f"{path} has no rows")
    return pd.DataFrame({name: table.iloc[:, names.index(column)].str.strip() for name, column in columns.items()})


def _read(path: Path) -> pd.DataFrame:
    """Read a CSV file; all values are text, and the index is the line of the file."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            lines = [(reader.line_num, row) for row in reader if row]
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as CSV: {error}") from error
    if not lines:
        raise UsageError(f"{path} cannot be read as CSV: it is empty")
    (_, header), *rows = lines
    for number, row in rows:
        if len(row) != len(header):
            raise UsageError(f"{path}, line {number}: {len(row)} values, and the header has {len(header)} columns")
    return pd.DataFrame([row for _, row in rows], [number for number, _ in rows], header, dtype=str)


def positive_numbers(path: Path, texts: "pd.Series[str]", column: str) -> "pd.Series[float]":
    """Return the texts of a column as numbers; UsageError if one is not a positive number up to LARGEST."""
    values = pd.to_numeric(texts, errors="coerce").astype(float)
    if not (is_allowed := values.between(0, LARGEST, inclusive="right")).all():
        line, text = next(iter(texts[~is_allowed].items()))
        raise UsageError(f"{path}, line {line}: {column} is {text!r}, which is not a positive number up to {LARGEST:g}")
    return values


if __name__ == "__main__":
    sys.exit(script())
