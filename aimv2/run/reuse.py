"""The training of finished runs, for runs that differ from them in evaluation only: these measure the weights.

Nothing here imports torch.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from aimv2.base.errors import RunFailedError, UsageError, unknown
from aimv2.base.files import read_json
from aimv2.base.plugins import Plugin, load, load_installed
from aimv2.config.evaluation_config import AloneConfig
from aimv2.config.program import Program
from aimv2.config.run_config import RunConfig
from aimv2.definitions.metrics import METRICS, PluginMetric, is_ours
from aimv2.request.resolve import data_fingerprint
from aimv2.runs.attempt import LAYOUT_VERSION
from aimv2.runs.provenance import digest
from aimv2.runs.record import RunFolder, entries
from aimv2.runs.rows import last_row

WEIGHTS = "weights.safetensors"
OF_METRICS = "evaluation.metrics."  # paths of metrics in ``RunConfig.plugins``
CURVE = ("split", "curve_pairs", "curve_points")  # values of the evaluation that change what training records
ORIGIN = ("host", "hardware", "threads", "code", "commit", "python", "versions")  # of a manifest


class Training(NamedTuple):
    """The training of a finished run.

    Attributes:
        folder: of the run.
        code: digest of the code that trained it.
        torch: version of torch that trained it.
    """

    folder: Path
    code: str
    torch: str

    @property
    def is_ours(self) -> bool:
        """True if this code and this torch would train the same weights, bitwise on the same CPU."""
        return (self.code, self.torch) == (digest(), metadata.version("torch"))


def reusable(runs: Mapping[str, Program], runs_dir: Path) -> dict[str, Training]:
    """Return the finished runs of a folder that were trained as these runs, and have their weights.

    One that this code has trained is preferred.

    Args:
        runs: resolved configs, by the names of the runs.

    Returns:
        by the names of the runs; those without such a finished run are left out.
    """
    trainings = {
        name: [training for one in same if (training := _training(one)) is not None]
        for name, same in trained_alike(runs, runs_dir).items()
    }
    return {name: min(known, key=lambda one: not one.is_ours) for name, known in trainings.items() if known}


def trained_alike(runs: Mapping[str, Program], runs_dir: Path) -> dict[str, list[RunFolder]]:
    """Return the finished runs of a folder that differ from each of these runs in evaluation only, by its name."""
    if not runs:
        return {}
    done = {name for name, one in entries(runs_dir).items() if (one.state, one.layout) == ("done", LAYOUT_VERSION)}
    evaluations = _evaluations(runs_dir, done)
    alike = {
        name: {one.name for other in evaluations for one in _evaluated(config, other)}
        for name, config in runs.items()
        if isinstance(config, RunConfig)
    }
    return {name: [RunFolder(runs_dir, one) for one in sorted(same & done)] for name, same in alike.items()}


def check_training(config: RunConfig, run: RunFolder) -> None:
    """Refuse a finished run that was trained otherwise than this config, or whose weights are gone.

    Raises:
        RunFailedError: with the cause ``data``.
    """
    stored = RunConfig.from_dict(read_json(run.path / "config.json"))
    if run.name not in (run.name for run in _evaluated(config, stored)):
        raise RunFailedError("data", f"run {run.name} differs from {config.name} in more than its evaluation")
    if not run.file(WEIGHTS).is_file():
        raise RunFailedError("data", f"the weights of run {run.name} are gone ({run.file(WEIGHTS)}); launch again")


def origin_of_training(run: RunFolder) -> dict[str, Any]:
    """Return where and with which code a finished run was trained, for the manifest of a run that reuses it.

    Returns:
        ``run`` and ``attempt`` that saved the weights, ``step`` after which it did, and values of its manifest.
    """
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
    own, evaluation = config.evaluation, other.evaluation
    metrics = {path: one for path, one in other.plugins.items() if path.startswith(OF_METRICS)}
    if config.budget.samples and any(getattr(own, name) != getattr(evaluation, name) for name in CURVE):
        return
    plugins = {path: one for path, one in config.plugins.items() if not path.startswith(OF_METRICS)}
    changed = replace(config, evaluation=evaluation, plugins={**plugins, **metrics})
    if own.sets != evaluation.sets:
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
            is_whole = isinstance(values, dict) and not (values.get("evaluation") or {}).get("alone")
            return values if is_whole else {}
        except UsageError:
            return {}

    with ThreadPoolExecutor() as pool:  # which wait for files, on a shared file system the longest
        one_of_each = {
            repr((values.get("evaluation"), values.get("plugins"))): values for values in pool.map(read, sorted(names))
        }
    found = list[RunConfig]()
    for values in one_of_each.values():
        try:
            found.append(RunConfig.from_dict(values))
        except UsageError:  # of another version
            continue
    return found


class ChosenMetric(NamedTuple):
    """A metric of a plug-in that is loaded."""

    metric: PluginMetric
    plugin: Plugin

    @property
    def digest(self) -> str:
        """The digest of the content of the plug-in, and of the code that measures."""
        return hashlib.sha256(f"{self.plugin.digest} {digest()}".encode()).hexdigest()[:12]

    def of(self, run: RunConfig) -> RunConfig:
        """Return the run that measures the metric of a finished run with this config."""
        return run.measuring(self.metric.name, self.digest)


def chosen_metric(typed: str) -> ChosenMetric:
    """Return the metric ``FILE:NAME`` of a plug-in's file or folder, or ``NAME`` of one of an installed package.

    Raises:
        UsageError: the plug-in cannot be loaded, or has no such metric.
    """
    path, _, name = typed.rpartition(":")
    if path:
        plugin = load(Path(path))
        if not (own := _metrics([plugin])):
            raise UsageError(f"plug-in {path} has no metric; mark a function with @metric(unit, lower_is_better=...)")
        kind = f"metric of {path}"
    elif name.endswith(".py"):
        raise UsageError(f"metric={typed}: name one of its metrics too, as in metric={typed}:NAME")
    elif is_ours(name):
        raise UsageError(f"metric={name} is built in, so every run has it; `measure` repeats a whole evaluation")
    elif not (own := _metrics(load_installed())):
        raise UsageError(f"metric={name}: no installed plug-in has a metric; name a file, as in metric=my.py:{name}")
    else:
        kind = "metric of an installed plug-in"
    if name not in own:
        raise unknown(kind, name, own)
    return own[name]


def check_finished_run(config: RunConfig, runs_dir: Path) -> RunFolder:
    """Return the finished run whose weights a run measures.

    Raises:
        RunFailedError: it was trained otherwise, or its weights are gone (cause ``data``).
        UsageError: its record cannot be read.
    """
    alone = _alone(config)
    run = RunFolder(runs_dir, alone.run)
    stored = RunConfig.from_dict(read_json(run.path / "config.json"))
    if stored.name != run.name or stored.measuring(alone.metric, alone.digest).name != config.name:
        raise RunFailedError("data", f"run {run.name} is not the one that {config.name} measures")
    if not run.is_done or not run.file(WEIGHTS).is_file():
        raise RunFailedError("data", f"the weights of run {run.name} are gone; launch its sweep again")
    return run


def metric_of(config: RunConfig) -> ChosenMetric:
    """Return the metric that a run measures alone.

    Raises:
        RunFailedError: its plug-in is not loaded, or has other content than at the launch (cause ``data``).
    """
    alone = _alone(config)
    plugin = METRICS.plugin_of(alone.metric)
    if plugin is None:
        raise RunFailedError("data", f"no plug-in has the metric {alone.metric}; type plugins=[FILE.py]")
    found = ChosenMetric(METRICS[alone.metric], plugin)
    if found.digest != alone.digest:
        text = f"{plugin.path} or the code was edited after metric {alone.metric} was requested"
        raise RunFailedError("data", f"{text}; type the command again")
    return found


def measured_by(chosen: ChosenMetric, num_pairs: int) -> str:
    """Return in words how a metric was measured.

    Args:
        num_pairs: held-out pairs of the evaluation.
    """
    return f"{num_pairs:,} held-out pairs, by {chosen.plugin.id} after the run (evaluation {chosen.digest})"


def _alone(config: RunConfig) -> AloneConfig:
    assert config.evaluation.alone is not None, "the run measures one metric"
    return config.evaluation.alone


def _metrics(plugins: Sequence[Plugin]) -> dict[str, ChosenMetric]:
    """Return the metrics of these plug-ins, by name."""
    owners = ((metric, METRICS.plugin_of(name)) for name, metric in METRICS.items())
    return {
        metric.name: ChosenMetric(metric, owner) for metric, owner in owners if owner is not None and owner in plugins
    }
