"""The plug-ins that a run uses: those of its values that no built-in code computes."""

from dataclasses import replace
from typing import cast

from aimv2.base.errors import UsageError
from aimv2.base.plugins import check_loaded
from aimv2.config.prefix import LAWS, Frozen
from aimv2.config.program import Run
from aimv2.config.run_config import RunConfig
from aimv2.spec.objectives import REGISTRY
from aimv2.spec.plugin_metrics import METRICS


def with_plugins(run: Run) -> Run:
    """Return a run with the plug-in of each value that is one's (``RunConfig.plugins``), and with all parameters of its
    prefix-length distribution. A run of another model has its plug-in already.

    Raises:
        UsageError: the distribution is unknown, or has other parameters.
    """
    return cast(Run, _with_plugins(run)) if isinstance(run, RunConfig) else run


def _with_plugins(config: RunConfig) -> RunConfig:
    parameters = Frozen(config.prefix.all_parameters())
    if parameters != config.prefix.parameters:
        config = replace(config, prefix=replace(config.prefix, parameters=parameters))
    owners = {
        "prefix.law": LAWS.plugin_of(config.prefix.law),
        "objective.name": REGISTRY.plugin_of(config.objective.name),
        **{f"evaluation.metrics.{name}": METRICS.plugin_of(name) for name in config.evaluation.metrics},
    }
    plugins = Frozen({path: owner.id for path, owner in owners.items() if owner is not None})
    return config if plugins == config.plugins else replace(config, plugins=plugins)


def check_plugins(config: RunConfig, name: str) -> None:
    """Refuse to execute a run with other plug-ins than it is named after.

    Args:
        name: of the run, in errors.

    Raises:
        UsageError: naming the plug-in.
    """
    check_loaded(config.plugins.values(), f"run {name}")
    if with_plugins(config) != config:
        raise UsageError(f"run {name} has values of plug-ins that its config does not name")
