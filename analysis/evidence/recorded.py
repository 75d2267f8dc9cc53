"""Which reports have records, and what these say of their runs. Plans of launches read it, so it loads no pandas."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aimv2.analysis.evidence.parquet import BrokenParquetError, read_table
from aimv2.base.errors import UsageError

FILE = "records.parquet"


def recorded_names(reports_dir: Path) -> list[str]:
    """Return the names of the reports that have records beside them."""
    return sorted(path.parent.name for path in reports_dir.glob(f"*/{FILE}"))


def recorded_runs(reports_dir: Path, name: str) -> dict[tuple[str, int], str]:
    """Return the names of a report's runs by arm and seed; none if it has no records that can be read."""
    try:
        rows = _rows(reports_dir / name / FILE, ["arm", "seed", "run"])
    except (OSError, BrokenParquetError):
        return {}
    return {(row["arm"], row["seed"]): row["run"] for row in rows}


def time_of_runs(reports_dir: Path, name: str) -> str:
    """Return how long a trained run of a report took, in words; empty if none did.

    Raises:
        UsageError: there are no records, or they are broken.
    """
    try:
        rows = _rows(reports_dir / name / FILE, ["samples", "seconds", "hardware"])
    except (OSError, BrokenParquetError) as error:
        raise UsageError(f"the records {reports_dir / name / FILE} cannot be read: {error}") from error
    trained = [row for row in rows if row["samples"]]  # null without a result
    where = "; ".join(dict.fromkeys(row["hardware"] for row in trained))
    return f"{sum(row['seconds'] for row in trained) / len(trained):.0f} s on {where}" if trained else ""


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    table = read_table(path.read_bytes())
    values = zip(*(table[name].to_pylist() for name in columns), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in values]
