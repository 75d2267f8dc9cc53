"""The weights of finished runs, for runs that differ from these in evaluation only, and so train none.

Such a run has a name, a lease and a result as all runs have, so it is done once, wherever workers run, and the finished
run stays as it is. Nothing here imports torch.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.base.files import read_json
from aimv2.config.program import Program
from aimv2.config.run_config import RunConfig
from aimv2.request.resolve import data_fingerprint
from aimv2.runs.attempt import LAYOUT_VERSION
from aimv2.runs.provenance import digest
from aimv2.runs.record import RunFolder, entries
from aimv2.runs.rows import last_row

WEIGHTS = "weights.safetensors"
OF_METRICS = "evaluation.metrics."  # paths of metrics in ``RunConfig.plugins``
CURVE = ("split", "curve_pairs", "curve_points")  # values of the evaluation that change what training records
ORIGIN = ("host", "hardware", "threads", "began", "code", "commit", "python", "versions")  # of a manifest


class Training(NamedTuple):
    """The training of a finished run."""

    folder: Path  # of the run
    code: str  # digest of the code that trained it
    torch: str  # version

    @property
    def is_ours(self) -> bool:
        """True if this code and this torch would train the same weights, bitwise on the same CPU."""
        return (self.code, self.torch) == (digest(), metadata.version("torch"))


def reusable(runs: Mapping[str, Program], runs_dir: Path) -> dict[str, Training]:
    """Return the finished runs of a folder that were trained as these resolved runs and have their weights, by the
    names of the runs; one that this code has trained is preferred."""
    trainings = {
        name: [training for run in same if (training := _training(run)) is not None]
        for name, same in trained_alike(runs, runs_dir).items()
    }
    return {name: min(known, key=lambda training: not training.is_ours) for name, known in trainings.items() if known}


def trained_alike(runs: Mapping[str, Program], runs_dir: Path) -> dict[str, list[RunFolder]]:
    """Return the finished runs of a folder that differ from each of these runs in evaluation only, by its name."""
    if not runs:
        return {}
    done = {
        name for name, entry in entries(runs_dir).items() if (entry.state, entry.layout) == ("done", LAYOUT_VERSION)
    }
    evaluations = _evaluations(runs_dir, done)
    alike = {
        name: {same.name for other in evaluations for same in _evaluated(config, other)}
        for name, config in runs.items()
        if isinstance(config, RunConfig)
    }
    return {name: [RunFolder(runs_dir, run) for run in sorted(same & done)] for name, same in alike.items()}


def check_training(config: RunConfig, run: RunFolder) -> None:
    """Refuse a finished run that was trained otherwise than this config, or whose weights are gone."""
    stored = RunConfig.from_dict(read_json(run.path / "config.json"))
    if run.name not in (run.name for run in _evaluated(config, stored)):
        raise RunFailedError("data", f"run {run.name} differs from {config.name} in more than its evaluation")
    _check_weights(run)


def _check_weights(run: RunFolder) -> None:
    if not run.is_done or not run.file(WEIGHTS).is_file():
        raise RunFailedError("data", f"the weights of run {run.name} are gone; launch its sweep again")


def origin_of_training(run: RunFolder) -> dict[str, Any]:
    """Return where and with which code a finished run was trained, for the manifest of a run that reuses it."""
    manifest, attempt = read_json(run.file("manifest.json")), run.result()["attempt"]
    if manifest.get("trained"):  # it reuses the training of another one
        return dict(manifest["trained"])
    step = last_row(run.file("")).get("step", 0)
    origin = {name: manifest.get(name) for name in ORIGIN}
    return {"run": run.name, "attempt": attempt, "step": step} | origin | {"code": origin["code"] or "not recorded"}


def _training(run: RunFolder) -> Training | None:
    """Return the training of a finished run; None if its weights are gone, or its record cannot be read."""
    try:
        if not run.file(WEIGHTS).is_file():
            return None
        origin = origin_of_training(run)
        return Training(run.path.absolute(), origin["code"], str(origin["versions"]["torch"]))
    except (UsageError, KeyError, TypeError):
        return None


def _evaluated(config: RunConfig, other: RunConfig) -> Iterator[RunConfig]:
    """Yield the run with the evaluation of another one, unless it would train or be recorded otherwise."""
    evaluation, others = config.evaluation, other.evaluation
    if config.budget.samples and any(getattr(evaluation, name) != getattr(others, name) for name in CURVE):
        return
    plugins = {path: plugin for path, plugin in config.plugins.items() if not path.startswith(OF_METRICS)}
    plugins |= {path: plugin for path, plugin in other.plugins.items() if path.startswith(OF_METRICS)}
    changed = replace(config, evaluation=others, plugins=plugins)
    if evaluation.sets != others.sets:
        try:
            changed = replace(changed, data=replace(config.data, fingerprint=data_fingerprint(changed)))
        except UsageError:  # of a labelled set that is gone
            return
    yield changed


def _evaluations(runs_dir: Path, names: set[str]) -> list[RunConfig]:
    """Return a run of each evaluation that these runs have."""

    def read(name: str) -> dict[str, Any]:
        try:
            values = read_json(runs_dir / name / "config.json")
            return values if isinstance(values, dict) else {}
        except UsageError:
            return {}

    with ThreadPoolExecutor() as pool:  # which wait for files, on a shared file system the longest
        one_of_each = {
            repr((values.get("evaluation"), values.get("plugins"))): values for values in pool.map(read, sorted(names))
        }
    runs = list[RunConfig]()
    for values in one_of_each.values():
        try:
            runs.append(RunConfig.from_dict(values))
        except UsageError:  # of another version
            continue
    return runs
