"""Exporters: each copies records to a tracker, and may do so again.

A run keeps its identity there, which is its name. A later export adds what is new or replaces the run, so that a run
that was interrupted and resumed is one run, and none is there twice. An exporter imports its package as it is called.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from aimv2.base.errors import UsageError, unknown
from aimv2.runs.events import PICTURES, EventFile, scalars_of
from sweeps.export import to_mlflow
from sweeps.export.record import FOLDER, Record


class Export(Protocol):
    def __call__(self, records: Sequence[Record], project: str, folder: Path) -> str:
        """Copy the records.

        Args:
            project: the name that the tracker shows them under.
            folder: for files of the tracker.

        Returns:
            a sentence that says where the runs are, and how to look at them.
        """


def to_tensorboard(records: Sequence[Record], project: str, folder: Path) -> str:
    """Write an event file for each record (``aimv2.runs.events``), in one folder by the names of their arms, with the
    final metrics at the last step. A run that is there is replaced."""
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


def to_trackio(records: Sequence[Record], project: str, folder: Path) -> str:
    """Write each record as a run with the record's name, without pictures, in trackio's own folder (TRACKIO_DIR). A run
    that is there is replaced."""
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


def to_wandb(records: Sequence[Record], project: str, folder: Path) -> str:
    """Write an offline run for each record in place of an earlier one, or with WANDB_MODE=online, the steps that the
    server lacks. A run's id is its name."""
    import wandb

    mode: Any = os.environ.get("WANDB_MODE", "offline")
    for record in records:
        for earlier in folder.glob(f"wandb/offline-run-*-{record.name}"):
            shutil.rmtree(earlier)
        run = wandb.init(
            project=project,
            id=record.name,
            name=record.title,
            group=record.arm or None,
            config=dict(record.config),
            dir=folder,
            mode=mode,
            resume="allow" if mode == "online" else None,  # offline there is no server to ask
            reinit="finish_previous",
            settings=wandb.Settings(console="off", silent=True, disable_git=True, x_disable_stats=True),
        )
        first = run.step if run.resumed else 0
        for row in record.rows:
            if row["step"] >= first:
                values: dict[str, Any] = {**scalars_of(row), "time": record.time_of(row)}
                if row["step"] in record.pictures:
                    values[PICTURES] = wandb.Image(str(record.pictures[row["step"]]))
                run.log(values, step=row["step"])
        run.summary.update(record.final)
        run.finish(exit_code=1 if record.state == "failed" else 0)
    wandb.teardown()  # waits for its process, which writes the files
    how = f"send them: wandb sync {folder}/wandb/offline-run-*" if mode == "offline" else f"in the project {project}"
    return f"{len(records)} runs; {how}"


@dataclass(frozen=True)
class Exporter:
    """An exporter with the package that it imports, and how to install that."""

    export: Export
    package: str
    install: str = "aimv2-ablations[exporters]"


EXPORTERS = {
    "tensorboard": Exporter(to_tensorboard, "tensorboard", "tensorboard google-crc32c"),
    "wandb": Exporter(to_wandb, "wandb"),
    "mlflow": Exporter(to_mlflow.export, "mlflow"),
    # Not in the extra: version 0.43 refuses Pillow 13, which the other packages accept.
    "trackio": Exporter(to_trackio, "trackio", "trackio"),
}


def export(records: Sequence[Record], to: str, project: str, runs_dir: Path) -> str:
    """Copy records to a tracker and return where they are.

    Raises:
        UsageError: the tracker is unknown, or its package is missing.
    """
    if to not in EXPORTERS:
        raise unknown("tracker", to, EXPORTERS)
    exporter = EXPORTERS[to]
    try:
        import_module(exporter.package)
    except ImportError as error:
        raise UsageError(
            f"to={to} needs the package {exporter.package} ({error}); install it: pip install '{exporter.install}'"
        ) from error
    folder = runs_dir / FOLDER / to
    folder.mkdir(parents=True, exist_ok=True)
    return exporter.export(records, project, folder)
