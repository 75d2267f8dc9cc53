"""The keys of a search, and Optuna's samplers and pruners by their names.

Optuna takes a second to load, so it is imported where it is used.
"""

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError
from aimv2.config.arguments import checked
from aimv2.config.data_config import CHECKED

if TYPE_CHECKING:
    from optuna import pruners, samplers

NONE = "none"  # of ``search=``
NO_PRUNER = "none"
MIN_POINTS = 1  # of the held-out curve, before a trial can be pruned
Sampler = Literal["tpe", "gp", "qmc", "random"]
Pruner = Literal["auto", "none", "asha", "median"]
# Optuna's classes, and arguments that are not its defaults, as searches have few trials, several workers, short curves.
CLASSES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "tpe": ("TPESampler", {"constant_liar": True}),
    "gp": ("GPSampler", {"deterministic_objective": True}),
    "qmc": ("QMCSampler", {"scramble": True, "warn_independent_sampling": False}),
    "random": ("RandomSampler", {}),
    "none": ("NopPruner", {}),
    # At each rung of successive halving, one in two trials continues.
    "asha": ("SuccessiveHalvingPruner", {"min_resource": MIN_POINTS, "reduction_factor": 2}),
    "median": ("MedianPruner", {"n_startup_trials": 4, "n_warmup_steps": MIN_POINTS}),
}


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SearchConfig:
    """A search, as a launch requests it with ``search.<field>``.

    Attributes:
        trials: finished and pruned ones in all; failed ones do not count.
        sampler: draws the points; of Optuna's, ``gp`` is a Gaussian process and ``qmc`` a Sobol sequence.
        pruner: ends trials that fall behind. ``auto`` is ``asha`` (asynchronous successive halving) if the sampler
            learns from pruned trials and the objective is measured while it trains, else ``none``.
        metric: the final metric to optimise; None for the primary metric of the study.
        seed: of the sampler, and of the runs of all trials. The seeds of the study, which confirm the winner, are
            others.
    """

    trials: Annotated[int, Field(gt=0)] = 24
    sampler: Sampler = "tpe"
    pruner: Pruner = "auto"
    metric: str | None = None
    seed: NonNegativeInt = 500


def search_values() -> dict[str, dict[str, Any]]:
    """Return the choices of ``search=`` with their keys and defaults."""
    return {NONE: {}, "optuna": asdict(SearchConfig())}


def search_config(values: Mapping[str, Any]) -> SearchConfig:
    """Return the search with the values of a command line; a UsageError starts with the key that is wrong."""
    try:
        config: SearchConfig = checked("search", SearchConfig, dict(values))
    except UsageError as error:
        raise UsageError(str(error).replace("search: ", "search.", 1)) from error
    return config


def sampler_of(config: SearchConfig, seed: int) -> "samplers.BaseSampler":
    """Return the sampler with a seed for this draw; a sequence, which all draws continue, has that of the search."""
    import optuna

    name, arguments = CLASSES[config.sampler]
    seed = config.seed if config.sampler == "qmc" else seed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: samplers.BaseSampler = getattr(optuna.samplers, name)(seed=seed, **arguments)
    return sampler


def pruner_of(name: str) -> "pruners.BasePruner":
    import optuna

    kind, arguments = CLASSES[name]
    pruner: pruners.BasePruner = getattr(optuna.pruners, kind)(**arguments)
    return pruner
