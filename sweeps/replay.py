"""Replay: execute a finished run again, of a runs folder or of a report's records, and compare it with its record."""

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.recorded_runs import FILE
from aimv2.analysis.evidence.records import read_records
from aimv2.base.errors import RunFailedError, UsageError, some
from aimv2.base.files import read_json
from aimv2.config.program import Program
from aimv2.config.run_config import RunConfig
from aimv2.config.training_config import LogConfig
from aimv2.run.programs import execute
from aimv2.runs.provenance import find_plugins
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import OF_MACHINE

PROVENANCE = ("code", "commit", "hardware", "threads", "versions", "data", "tokenizer")  # what else is compared
MAX_TOLERANCE = 0.1


@dataclass(frozen=True)
class Recorded:
    """A finished run as it was recorded: values of steps and final metrics by name, and the recorded PROVENANCE.

    A record that ``is_whole`` has every value that a replay has.
    """

    config: Program
    values: Mapping[str, float]
    origin: Mapping[str, Any]
    is_whole: bool = False


def recorded_in_folder(run: RunFolder) -> Recorded:
    """Return a run of a runs folder; UsageError if it is not done, or this version would name its config otherwise."""
    if not run.is_done:
        raise UsageError(f"run {run.name} is not done yet; only a finished run can be replayed")
    config = RunConfig.from_dict(read_json(run.path / "config.json"))
    find_plugins(config, run.path.parent)
    if config.name != run.name:
        raise UsageError(
            f"{run.path / 'config.json'} is not the config of {run.name}: this version names it differently"
        )
    manifest = read_json(run.file("manifest.json"))
    origin = {key: manifest.get(key) for key in PROVENANCE}
    return Recorded(config, _values_of(run), origin, is_whole=True)


def recorded_in_report(folder: Path, beginning: str, cache_dir: str) -> Recorded:
    """Return the run of a report's records whose name begins so; they have final metrics and the held-out curve."""
    records = read_records(folder / FILE, STUDIES)
    evidence = records.evidence
    runs = evidence.runs.drop_duplicates("run").set_index("run")
    names = [name for name in runs.index if name.startswith(beginning)]
    if len(names) != 1:
        raise UsageError(
            f"{len(names)} finished runs of {folder} begin with {beginning!r}; it has {some(sorted(runs.index))}"
        )
    cell = next(cell for cell in records.request.cells if cell.name == names[0])
    if cell.config.starts_from_files:
        raise UsageError("this run needs weights to start from, which records do not have")
    metrics, curves = (
        table[(table["arm"] == cell.arm) & (table["seed"] == cell.seed)] if len(table) else table
        for table in (evidence.metrics, evidence.curves)
    )
    later = {metric.name for metric in records.request.metrics}  # by other runs
    values = _values(
        curves.drop(columns=["arm", "seed"], errors="ignore"),
        {name: value for name, value in zip(metrics["metric"], metrics["value"], strict=True) if name not in later},
    )
    # A report joins those of training and of evaluation, where they differ.
    origin = {
        key: runs.loc[names[0], key] for key in PROVENANCE if key in runs and "; " not in str(runs.loc[names[0], key])
    }
    return Recorded(cell.config.with_cache_dir(cache_dir), values, origin)


def replay(recorded: Recorded, say: Callable[[str], None] = print, *, tolerance: float = 0.0) -> bool:
    """Execute a run in a temporary folder, and compare the recorded values of its steps and its final metrics.

    Nothing of others is executed: the config is theirs, the code ours. Returns True if no recorded value differs by
    more than the tolerance, which is relative, and none is missing.
    """
    if not 0 <= tolerance <= MAX_TOLERANCE:
        raise UsageError(f"tolerance={tolerance:g} must be between 0, to the last bit, and {MAX_TOLERANCE:g}")
    config, was = recorded.config, recorded.values
    if not was:
        raise UsageError(f"the record of {config.name} has no values to compare")
    if isinstance(config, RunConfig):  # no tracker hears of it
        config = replace(config, log=LogConfig(every_steps=config.log.every_steps))
    say(f"executing {config.name} again in a temporary folder")
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder), config.name)
        attempt = run.acquire(config)
        assert attempt is not None, "the folder is new"
        failure = execute(config, attempt)
        if failure is not None:
            raise RunFailedError(failure.cause, f"the replay failed ({failure.cause}): {failure.message}")
        now, origin = _values_of(run), read_json(run.file("manifest.json"))
    differ = {
        name: abs(value - now[name])
        for name, value in was.items()
        if name in now and not (value == now[name] or math.isclose(value, now[name], rel_tol=tolerance))
    }
    say(f"{len(was)} values of steps and final metrics compared, {len(differ)} differ")
    if differ:
        largest = max(differ, key=lambda name: differ[name])
        say(f"largest difference: {largest} was {was[largest]!r} and is {now[largest]!r}")
    missing = sorted(was.keys() - now.keys())
    more = sorted(now.keys() - was.keys()) if recorded.is_whole else []
    for where, names in {"record": missing, "replay": more}.items():
        if names:
            say(f"only in the {where}: {', '.join(names[:5])}")
    for key, value in recorded.origin.items():
        if value != origin.get(key):
            say(f"{key} was {value} and is {origin.get(key)}")
    is_equal = not (differ or missing or more)
    say(
        (f"equal within {tolerance:g} of each value" if tolerance else "equal to the last bit")
        if is_equal
        else "not equal"
    )
    return is_equal


def _values_of(run: RunFolder) -> dict[str, float]:
    return _values(run.metrics(), {name: metric["value"] for name, metric in run.result()["metrics"].items()})


def _values(rows: pd.DataFrame, metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Return the values of steps and the final metrics by name, without those of the machine."""
    values = {name: float(value) for name, value in metrics.items() if value is not None}
    if rows.empty:
        return values
    steps = rows.drop(columns=list(OF_MACHINE), errors="ignore").set_index("step")
    return values | {
        f"{name} at step {step}": float(value) for name in steps for step, value in steps[name].dropna().items()
    }
