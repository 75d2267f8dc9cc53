"""The runs in the records beside reports. Plans of launches read them, so this module loads no pandas."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FILE = "records.parquet"


def recorded_names(reports_dir: Path) -> list[str]:
    """Return the names of the reports that have records beside them."""
    return sorted(path.parent.name for path in reports_dir.glob(f"*/{FILE}"))


def recorded_runs(reports_dir: Path, name: str) -> dict[tuple[str, int], str]:
    """Return the names of a report's runs by arm and seed; none if it has no records that can be read."""
    try:
        with pq.ParquetFile(reports_dir / name / FILE) as file:  # pq.read_table would load pandas
            rows = file.read(["arm", "seed", "run"]).to_pylist()
        return {(row["arm"], row["seed"]): row["run"] for row in rows}
    except (OSError, KeyError, pa.ArrowException):  # a column that is not there is not read
        return {}
