"""Runs for Weights & Biases: offline unless WANDB_MODE=online. A run's id is its name."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aimv2.runs.events import PICTURES, scalars_of
from sweeps.export.record import Record


def export(records: Sequence[Record], project: str, folder: Path) -> str:
    """Write an offline run for each record in place of an earlier one, or online, the steps that the server lacks."""
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
