"""Upload of final values to Weights & Biases: of runs, to the ones that their rows were sent to while they trained, and
the verdicts of the report of their study."""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import read_request
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, user
from aimv2.config.program import flattened
from aimv2.runs.record import RunFolder, named_run
from aimv2.runs.rows import INSTALL, Wandb

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

    Without ``reports_dir`` the report is that of the launch. Raises UsageError if nothing of this name is done.
    """
    if BEGINNING.fullmatch(name):
        run = named_run(runs_dir, name)
        found = [_of_run(run, "")] if run.is_done else []
    else:
        request = read_request(runs_dir, name, STUDIES, owner=user())
        arms = {cell.name: cell.arm for cell in request.cells}
        runs = [RunFolder(runs_dir, run) for run in arms]
        found = [_of_run(run, arms[run.name]) for run in runs if run.is_done]
        report = (reports_dir or request.reports_dir) / name / "report.json"
        if found and report.exists():
            found.append(_of_report(name, report))
    if not found:
        raise UsageError(f"no run of {name} is done yet in {str(runs_dir)!r}; there is nothing to export")
    return found


def _of_run(run: RunFolder, arm: str) -> Record:
    config, metrics = read_json(run.path / "config.json"), run.result()["metrics"]
    final = {f"final/{name}": metric["value"] for name, metric in metrics.items() if metric["value"] is not None}
    return Record(name=run.name, config=flattened(config), values={"arm": arm, "seed": config["seed"], **final})


def _of_report(name: str, path: Path) -> Record:
    report = read_json(path)
    values: dict[str, float | str] = {"answer": report["answer"]}
    for arm, pair in report["numbers"]["comparisons"].items():
        values |= {f"difference/{arm}/{key}": pair[key] for key in ("mean", "low", "high") if pair[key] is not None}
        values[f"observed/{arm}"] = str(pair["observed"])
    values |= {f"verdict/{claim}": verdict["word"] for claim, verdict in report["numbers"]["verdicts"].items()}
    return Record(name=name, values=values)


def export(records: Sequence[Record], project: str, runs_dir: Path) -> str:
    """Set the final values of each record in its run; return where they are. An empty project is that of rows."""
    folder = runs_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        for earlier in folder.glob(f"wandb/offline-run-*-{record.name}"):
            shutil.rmtree(earlier)
        try:
            run = Wandb(
                record.name, record.config, folder, project=project, group=str(record.values.get("arm", "")) or None
            )
        except ImportError as error:
            raise UsageError(f"export needs a package: {error}; install it: {INSTALL}") from error
        run.summarise(record.values)
        run.close("done")
    return f"{len(records)} records in Weights & Biases; send what is offline: wandb sync {folder}/wandb/offline-run-*"
