"""Runs for trackio, in its own folder (TRACKIO_DIR). A run that is there is replaced."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from aimv2.runs.events import scalars_of
from sweeps.export.record import Record


def export(records: Sequence[Record], project: str, folder: Path) -> str:
    """Write each record as a run with the record's name, without pictures."""
    # As trackio's own imports of CSV files and events do: with trackio.init a process has one run, in real time.
    from trackio.sqlite_storage import SQLiteStorage

    for record in records:
        rows = [(scalars_of(row), row["step"], record.time_of(row)) for row in record.rows]
        if record.final:
            rows.append((record.final, record.last_step, record.ended))
        SQLiteStorage.delete_run(project, record.name)
        SQLiteStorage.bulk_log(
            project,
            record.name,
            [values for values, _, _ in rows],
            [step for _, step, _ in rows],
            [datetime.fromtimestamp(time, UTC).isoformat() for _, _, time in rows],
            config={"arm": record.arm, **record.config},
        )
    return f"{len(records)} runs; look at them with: trackio show --project {project}"
