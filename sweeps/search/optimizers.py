"""Optuna's samplers and pruners by their names.

A name is that of Optuna's class without its ending, in lower case: ``tpe`` is ``TPESampler``. Left out are those that
need an argument, such as a grid of values: the arms of a study are a grid, and Optuna's ``GridSampler`` repeats points
when several workers draw from it.
"""

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna import pruners, samplers

MIN_POINTS = 1  # of the held-out curve, before a trial can be pruned
REDUCTION = 2  # at each rung of successive halving, one in so many trials continues
# Short names that the field uses, and our searches have used.
USUAL_NAMES = {"nsgaii": "nsga2", "nsgaiii": "nsga3", "successivehalving": "asha", "nop": "none"}
# Arguments that are not Optuna's defaults, as searches have few trials, several workers, and short curves.
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "tpe": {"constant_liar": True},
    "cmaes": {"n_startup_trials": 4},
    "gp": {"deterministic_objective": True},
    "nsga2": {"population_size": 16},
    "qmc": {"scramble": True, "warn_independent_sampling": False},
    "asha": {"min_resource": MIN_POINTS, "reduction_factor": REDUCTION},
    "hyperband": {"min_resource": MIN_POINTS, "reduction_factor": REDUCTION},
    "median": {"n_startup_trials": 4, "n_warmup_steps": MIN_POINTS},
}


def _by_name(module: Any, ending: str) -> dict[str, type[Any]]:
    """Return the classes of a module of Optuna that have such an ending and need no argument."""
    found = [name.removesuffix(ending) for name in module.__all__ if name.endswith(ending)]
    classes = {name: getattr(module, name + ending) for name in found if name not in ("Base", "Threshold")}
    usable = {
        name: one
        for name, one in classes.items()
        if all(value.default is not value.empty for value in inspect.signature(one).parameters.values())
    }
    return {USUAL_NAMES.get(name.lower(), name.lower()): one for name, one in usable.items()}


SAMPLERS, PRUNERS = _by_name(samplers, "Sampler"), _by_name(pruners, "Pruner")


def sampler_of(name: str, *, seed: int, first_seed: int) -> samplers.BaseSampler:
    """Return a sampler.

    Args:
        seed: for this draw.
        first_seed: of the search, for a sequence that all draws continue.
    """
    sampler: samplers.BaseSampler = _made(SAMPLERS, name, seed=first_seed if name == "qmc" else seed)
    return sampler


def pruner_of(name: str, num_points: int) -> pruners.BasePruner:
    """Return a pruner of trials that report ``num_points`` points of their held-out curve."""
    pruner: pruners.BasePruner = _made(PRUNERS, name, max_resource=max(num_points, MIN_POINTS))
    return pruner


def _made(classes: Mapping[str, type[Any]], name: str, **values: Any) -> Any:
    """Return an object of a class with our arguments, and with those of these values that it has."""
    known = inspect.signature(classes[name]).parameters
    own = {key: value for key, value in values.items() if key in known}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return classes[name](**own, **ARGUMENTS.get(name, {}))
