"""Runs that measure one metric of a plug-in of a finished run's weights, and do nothing else.

Such a run has a name, a lease and a result as all runs have, so it is done once, wherever workers run, and the finished
run stays as it is. Nothing here imports torch.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from aimv2.base.errors import RunFailedError, UsageError, unknown
from aimv2.base.files import read_json
from aimv2.base.plugins import Plugin, load, load_installed
from aimv2.config.evaluation_config import AloneConfig
from aimv2.config.run_config import RunConfig
from aimv2.run.reuse import WEIGHTS
from aimv2.runs.provenance import digest
from aimv2.runs.record import RunFolder
from aimv2.spec.metrics import is_ours
from aimv2.spec.plugin_metrics import METRICS, PluginMetric


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
