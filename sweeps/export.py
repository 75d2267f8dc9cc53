"""Upload of final values to Weights & Biases or MLflow: of runs, to the ones that their rows were sent to while they
trained, and the verdicts of the report of their study."""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import read_request
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, user
from aimv2.config.program import flattened
from aimv2.runs.record import RunFolder
from aimv2.runs.trackers import INSTALL, Mlflow, Wandb
from aimv2.sweeps.status.board import named_run

FOLDER = "exports"  # in the runs folder
BEGINNING = re.compile(r"v\d+-[0-9a-f]*")  # of a run's name


@dataclass(frozen=True, kw_only=True)
class Record:
    """Final values of a run or of a report.

    Attributes:
        name: the run's, or that of the study.
        config: values by path, for display.
        values: final metrics and place in the sweep (of a run that was named alone, no arm), or the report's answer,
            differences and verdicts.
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, float | str]


def records(runs_dir: Path, name: str, reports_dir: Path | None = None) -> list[Record]:
    """Return the finished runs of a sweep and its report, if there is one; or the run whose name begins so.

    Args:
        reports_dir: by default that of the launch.

    Raises:
        UsageError: there is no such sweep or run, or none of its runs is done.
    """
    if BEGINNING.fullmatch(name):
        run = named_run(runs_dir, name)
        found = [_of_run(run, "")] if run.is_done else []
    else:
        request = read_request(runs_dir, name, STUDIES, owner=user())
        cells = {cell.name: (RunFolder(runs_dir, cell.name), cell.arm) for cell in request.cells}
        found = [_of_run(run, arm) for run, arm in cells.values() if run.is_done]
        report = (reports_dir or request.reports_dir) / name / "report.json"
        if found and report.exists():
            found.append(_of_report(name, report))
    if not found:
        raise UsageError(f"no run of {name} is done yet in {str(runs_dir)!r}; there is nothing to export")
    return found


def _of_run(run: RunFolder, arm: str) -> Record:
    config, metrics = read_json(run.path / "config.json"), run.result()["metrics"]
    final = {f"final/{name}": one["value"] for name, one in metrics.items() if one["value"] is not None}
    return Record(name=run.name, config=flattened(config), values={"arm": arm, "seed": config["seed"], **final})


def _of_report(name: str, path: Path) -> Record:
    report = read_json(path)
    values: dict[str, float | str] = {"answer": report["answer"]}
    for arm, found in report["numbers"]["comparisons"].items():
        values |= {f"difference/{arm}/{key}": found[key] for key in ("mean", "low", "high") if found[key] is not None}
        values[f"observed/{arm}"] = str(found["observed"])
    values |= {f"verdict/{claim}": found["word"] for claim, found in report["numbers"]["verdicts"].items()}
    return Record(name=name, values=values)


def export(records: Sequence[Record], project: str, runs_dir: Path, uri: str | None = None) -> str:
    """Set the final values of each record in its run; return where they are.

    Args:
        project: the tracker's project or experiment; empty is that of rows.
        uri: of an MLflow; None is Weights & Biases.

    Raises:
        UsageError: the package is missing.
    """
    folder, tracker = runs_dir / FOLDER, partial(Mlflow, uri=uri) if uri else Wandb
    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        for earlier in folder.glob(f"wandb/offline-run-*-{record.name}"):
            shutil.rmtree(earlier)
        try:
            run = tracker(record.name, record.config, folder, project=project, group=str(record.values.get("arm", "")))
        except ImportError as error:
            raise UsageError(f"export needs a package: {error}; install it: {INSTALL}") from error
        run.summarise(record.values)
        run.close("done")
    there = uri or f"Weights & Biases; send what is offline: wandb sync {folder}/wandb/offline-run-*"
    return f"{len(records)} records in {there}"
