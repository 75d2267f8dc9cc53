"""The runs in the records beside reports. Plans of launches read them, so this module loads no pandas."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aimv2.base.errors import UsageError

FILE = "records.parquet"


def recorded_names(reports_dir: Path) -> list[str]:
    """Return the names of the reports that have records beside them."""
    return sorted(path.parent.name for path in reports_dir.glob(f"*/{FILE}"))


def recorded_runs(reports_dir: Path, name: str) -> dict[tuple[str, int], str]:
    """Return the names of a report's runs by arm and seed; none if it has no records that can be read."""
    try:
        rows = _rows(reports_dir / name / FILE, ["arm", "seed", "run"])
    except (OSError, pa.ArrowException):
        return {}
    return {(row["arm"], row["seed"]): row["run"] for row in rows}


def time_of_runs(reports_dir: Path, name: str) -> str:
    """Return how long a trained run of a report took, in words; empty if none did. UsageError without records."""
    path = reports_dir / name / FILE
    try:
        rows = _rows(path, ["samples", "seconds", "hardware"])
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"the records {path} cannot be read: {error}") from error
    trained = [row for row in rows if row["samples"]]  # null without a result
    where = "; ".join(dict.fromkeys(row["hardware"] for row in trained))
    return f"{sum(row['seconds'] for row in trained) / len(trained):.0f} s on {where}" if trained else ""


def _rows(path: Path, columns: list[str]) -> list[dict[str, Any]]:
    with pq.ParquetFile(path) as file:  # pq.read_table would load pandas
        rows: list[dict[str, Any]] = file.read(columns).to_pylist()
    return rows
