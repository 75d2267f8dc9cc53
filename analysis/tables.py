"""Tables of runs of any source: a CSV, TSV or Parquet file with a row for each run, such as a tracker's export."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from aimv2.base.errors import UsageError

PARQUET = (".parquet", ".pq")


def read_columns(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """Return columns of a file as text without spaces around it; a missing value is empty.

    Args:
        columns: columns of the file by our names, which are those of the arguments that name them.

    Raises:
        UsageError: the file is no table, it has no rows, or a column is missing.
    """
    kind = "Parquet" if path.suffix in PARQUET else "CSV"
    try:
        if kind == "Parquet":
            table = pd.read_parquet(path)
            table = table.astype("string").fillna("")
        else:
            separator = "\t" if path.suffix == ".tsv" else ","
            table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors too
        raise UsageError(f"{path} cannot be read as {kind}: {error}") from error
    for name, column in columns.items():
        if column not in table:
            raise UsageError(
                f"{path} has no column {column!r}, typed as {name}=. It has: {', '.join(map(str, table.columns))}."
            )
    if table.empty:
        raise UsageError(f"{path} has no rows")
    return pd.DataFrame({name: table[column].astype(str).str.strip() for name, column in columns.items()})


def numbers(path: Path, texts: "pd.Series[str]", column: str, *, positive: bool = False) -> "pd.Series[float]":
    """Return the texts of a column as numbers.

    Args:
        column: the file's name for it.

    Raises:
        UsageError: a text is not a finite number, or not a positive one.
    """
    values = pd.to_numeric(texts, errors="coerce").astype(float)
    wrong = ~(np.isfinite(values) & (values > 0 if positive else True))
    if wrong.any():
        place = int(np.argmax(wrong))
        row = int(texts.index[place])
        where = f"row {row + 1}" if path.suffix in PARQUET else f"line {row + 2}"
        kind = "positive number" if positive else "number"
        raise UsageError(f"{path}, {where}: {column} is {texts.iloc[place]!r}, which is not a {kind}")
    return values
