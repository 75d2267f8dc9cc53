"""Optuna's samplers and pruners, with their arguments, by their names.

A name is that of Optuna's class, or that without its ending in lower case: ``tpe`` is ``TPESampler``. Left out are
those that need an object or a grid of values: the arms of a study are a grid, and Optuna's ``GridSampler`` repeats
points when several workers draw from it.
"""

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna import pruners, samplers

from aimv2.base.errors import UsageError, unknown
from aimv2.sweeps.search.config import AUTO, NO_PRUNER

NOT_USABLE = ("Base", "Grid", "PartialFixed", "Patient")  # prefixes of interfaces, and of those that need an object
PLAIN = (bool, int, float, str, type(None))  # types of arguments that a command line can give
MIN_POINTS = 1  # of the held-out curve, before a trial can be pruned
REDUCTION = 2  # at each rung of successive halving, one in so many trials continues
# Short names that the field uses, and our searches have used.
USUAL_NAMES = {"nsgaii": "nsga2", "nsgaiii": "nsga3", "successivehalving": "asha", "nop": NO_PRUNER}
# Defaults that are not Optuna's, as searches have few trials, several workers, and short curves.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "tpe": {"constant_liar": True},
    "cmaes": {"n_startup_trials": 4},
    "gp": {"deterministic_objective": True},
    "nsga2": {"population_size": 16},
    "qmc": {"scramble": True, "warn_independent_sampling": False},
    "asha": {"min_resource": MIN_POINTS, "reduction_factor": REDUCTION},
    "hyperband": {"min_resource": MIN_POINTS, "reduction_factor": REDUCTION},
    "median": {"n_startup_trials": 4, "n_warmup_steps": MIN_POINTS},
}


def _by_name(key: str, module: Any) -> dict[str, type[Any]]:
    """Return the classes of a module of Optuna, ``samplers`` or ``pruners``, by their short names."""
    names = [name for name in module.__all__ if name.endswith(key.capitalize()) and not name.startswith(NOT_USABLE)]
    return {_short(key, name): getattr(module, name) for name in names}


def _short(key: str, name: str) -> str:
    ending = key.capitalize()
    short = name.removesuffix(ending).lower() if name.endswith(ending) else name
    return USUAL_NAMES.get(short, short)


CLASSES = {"sampler": _by_name("sampler", samplers), "pruner": _by_name("pruner", pruners)}


def arguments_of(key: str, name: str) -> dict[str, Any]:
    """Return the arguments of a class that a command line can give, with their defaults. The seed is the search's.

    Args:
        key: ``sampler`` or ``pruner``.

    Raises:
        UsageError: there is no such class.
    """
    classes, short = CLASSES[key], _short(key, name)
    if key == "pruner" and short == AUTO:
        return {}
    if short not in classes:
        raise unknown(f"search.{key}", short, [*classes, *[AUTO] * (key == "pruner")])
    parameters = inspect.signature(classes[short]).parameters.values()
    found = {one.name: None if one.default is one.empty else one.default for one in parameters if one.name != "seed"}
    return {name: value for name, value in found.items() if isinstance(value, PLAIN)} | dict(DEFAULTS.get(short, {}))


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a search with the short names of classes, and only arguments that are not the defaults.

    Raises:
        UsageError: there is no such class, or it refuses its arguments.
    """
    found = dict(values)
    for key in CLASSES:
        defaults, own, name = arguments_of(key, str(values[key])), f"{key}_args", _short(key, str(values[key]))
        changed = {one: value for one, value in values[own].items() if defaults and value != defaults[one]}
        try:
            if defaults:
                _made(key, name, changed, seed=0)  # without one, some samplers warn
        except (TypeError, ValueError) as error:
            raise UsageError(f"search.{key}={name}: {error}; its arguments are keys of search.{own}") from error
        found |= {key: name, own: changed}
    return found


def sampler_of(name: str, arguments: Mapping[str, Any], *, seed: int, first_seed: int) -> samplers.BaseSampler:
    """Return a sampler.

    Args:
        seed: for this draw.
        first_seed: of the search, for a sequence that all draws continue.
    """
    sampler: samplers.BaseSampler = _made("sampler", name, arguments, seed=first_seed if name == "qmc" else seed)
    return sampler


def pruner_of(name: str, arguments: Mapping[str, Any], num_points: int) -> pruners.BasePruner:
    """Return a pruner of trials that report ``num_points`` points of their held-out curve."""
    pruner: pruners.BasePruner = _made("pruner", name, arguments, max_resource=max(num_points, MIN_POINTS))
    return pruner


def _made(key: str, name: str, arguments: Mapping[str, Any], **values: Any) -> Any:
    """Return an object of a class with these arguments and our defaults, and those of the values that it has."""
    known = inspect.signature(CLASSES[key][name]).parameters
    own = {key: value for key, value in values.items() if key in known}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return CLASSES[key][name](**{**own, **DEFAULTS.get(name, {}), **arguments})
