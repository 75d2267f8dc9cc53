"""Copies of what runs have recorded, for Weights & Biases. A run's id is its name, so that a later export adds what is
new, a run that was interrupted and resumed is one run, and none is there twice."""

import contextlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablations.catalogue import STUDIES
from ablations.request import read_request
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, user
from aimv2.config.serialization import flatten
from aimv2.runs.attempt import pictures_of
from aimv2.runs.events import PICTURES, scalars_of
from aimv2.runs.record import RunFolder, State

FOLDER = "exports/wandb"  # in the runs folder
BEGINNING = re.compile(r"v\d+-[0-9a-f]*")  # of a run's name


@dataclass(frozen=True, kw_only=True)
class Record:
    """A run that was started.

    Attributes:
        name: of the run.
        arm, seed: its place in the sweep; empty and the run's own seed if it was named alone.
        config: values by path.
        rows: those of the attempt that made the result, or of the latest one.
        metrics: the final metrics that apply to the run; empty before it is done.
        started: seconds since 1970 from which the rows' seconds count, about.
        pictures: of predictions, by step.
    """

    name: str
    arm: str
    seed: int
    state: State
    config: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, float] = field(default_factory=dict)
    started: float = 0.0
    pictures: Mapping[int, Path] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.arm}, seed {self.seed}" if self.arm else self.name

    def time_of(self, row: Mapping[str, Any]) -> float:
        """Return the time of a row in seconds since 1970."""
        return self.started + float(row.get("seconds", 0.0))


def records(runs_dir: Path, name: str) -> list[Record]:
    """Return the runs of a sweep that were started, or the run whose name begins so.

    Raises:
        UsageError: there is no such sweep or run, or none of its runs was started.
    """
    places: dict[str, tuple[str, int | None]]
    if BEGINNING.fullmatch(name):
        runs = [RunFolder(runs_dir, path.name) for path in sorted(runs_dir.glob(f"{name}*"))]
        if len(runs) != 1:
            raise UsageError(f"{len(runs)} runs in {str(runs_dir)!r} begin with {name!r}; name exactly one")
        places = {runs[0].name: ("", None)}
    else:
        request = read_request(runs_dir, name, STUDIES, owner=user())
        runs = [RunFolder(runs_dir, cell.name) for cell in request.cells]
        places = {cell.name: (cell.arm, cell.seed) for cell in request.cells}
    found = [_record(run, *places[run.name]) for run in runs if run.measured() is not None]
    if not found:
        raise UsageError(f"no run of {name} was started yet in {str(runs_dir)!r}; there is nothing to export")
    return found


def _record(run: RunFolder, arm: str, seed: int | None) -> Record:
    attempt, config = run.measured(), read_json(run.path / "config.json")
    assert attempt is not None, "it was started"
    rows = run.rows()
    resumed: dict[str, Any] = {}
    with contextlib.suppress(UsageError):  # the attempt has just begun
        resumed = read_json(attempt / "manifest.json").get("resumed") or {}
    # The rows before that step are of earlier attempts.
    before = next((row.get("seconds", 0.0) for row in rows if row["step"] == resumed.get("step")), 0.0)
    values = run.result()["metrics"] if run.is_done else {}
    return Record(
        name=run.name,
        arm=arm,
        seed=config["seed"] if seed is None else seed,
        state=run.state(),
        config=flatten(config),
        rows=rows,
        metrics={name: metric["value"] for name, metric in values.items() if metric["value"] is not None},
        started=(attempt / "holder.json").stat().st_mtime - before,
        pictures=pictures_of(attempt),
    )


def export(records: Sequence[Record], project: str, runs_dir: Path) -> str:
    """Write an offline run for each record in place of an earlier one, or with WANDB_MODE=online, the steps that the
    server lacks. Return where the runs are.

    Raises:
        UsageError: the package wandb is missing.
    """
    try:
        import wandb
    except ImportError as error:
        raise UsageError(
            f"export needs the package wandb ({error}); install it: pip install 'aimv2-ablations[exporters]'"
        ) from error
    folder, mode = runs_dir / FOLDER, os.environ.get("WANDB_MODE", "offline")
    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        for earlier in folder.glob(f"wandb/offline-run-*-{record.name}"):
            shutil.rmtree(earlier)
        _upload(record, project, folder, mode)
    wandb.teardown()  # waits for its process, which writes the files
    how = f"send them: wandb sync {folder}/wandb/offline-run-*" if mode == "offline" else f"in the project {project}"
    return f"{len(records)} runs; {how}"


def _upload(record: Record, project: str, folder: Path, mode: Any) -> None:
    import wandb

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
    run.summary.update({f"final/{name}": value for name, value in record.metrics.items()})
    run.finish(exit_code=1 if record.state == "failed" else 0)
