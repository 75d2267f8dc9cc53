"""Runs in one folder by the names of their arms, for TensorBoard. A run that is there is replaced."""

from collections.abc import Sequence
from pathlib import Path

from aimv2.runs.events import EventFile, scalars_of
from sweeps.export.record import Record


def export(records: Sequence[Record], project: str, folder: Path) -> str:
    """Write an event file for each record (``aimv2.runs.events``), with the final metrics at the last step."""
    for record in records:
        own = f"{record.title}, {record.name}" if record.arm else record.name
        file = EventFile(folder / project / own)
        for row in record.rows:
            file.write_scalars(scalars_of(row), row["step"], record.time_of(row))
            if row["step"] in record.pictures:
                file.write_picture(record.pictures[row["step"]].read_bytes(), row["step"], record.time_of(row))
        if record.final:
            file.write_scalars(record.final, record.last_step, record.ended)
        file.close()
    return f"{len(records)} runs; look at them with: tensorboard --logdir {folder / project}"
