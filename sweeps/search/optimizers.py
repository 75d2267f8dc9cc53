"""Optuna's samplers and pruners, with their arguments, by their names.

A name is that of Optuna's class, or that without its ending in lower case: ``tpe`` is ``TPESampler``. Left out are
those that need an object or a grid of values: the arms of a study are a grid, and Optuna's ``GridSampler`` repeats
points when several workers draw from it.
"""

import inspect
import math
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna import pruners, samplers
from optuna.trial import FrozenTrial

from aimv2.base.errors import UsageError, unknown
from sweeps.search.config import AUTO, NO_PRUNER

NOT_USABLE = ("Base", "Grid", "PartialFixed", "Patient")  # prefixes of interfaces, and of those that need an object
PLAIN = (bool, int, float, str, type(None))  # types of arguments that a command line can give
MIN_POINTS = 1  # of the held-out curve, before a trial can be pruned
KEPT = "kept"  # attribute of a trial: where it was not pruned, because it was within the noise
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


def _by_name(module: Any, ending: str) -> dict[str, type[Any]]:
    """Return the classes of a module of Optuna that have such an ending, by their short names."""
    names = [name for name in module.__all__ if name.endswith(ending) and not name.startswith(NOT_USABLE)]
    return {_short(name, ending): getattr(module, name) for name in names}


def _short(name: str, ending: str) -> str:
    short = name.removesuffix(ending).lower() if name.endswith(ending) else name
    return USUAL_NAMES.get(short, short)


SAMPLERS, PRUNERS = _by_name(samplers, "Sampler"), _by_name(pruners, "Pruner")


def arguments_of(key: str, name: str) -> dict[str, Any]:
    """Return the arguments of a class that a command line can give, with their defaults. The seed is the search's.

    Args:
        key: ``sampler`` or ``pruner``.

    Raises:
        UsageError: there is no such class.
    """
    classes, short = SAMPLERS if key == "sampler" else PRUNERS, _short(name, key.capitalize())
    if key == "pruner" and short == AUTO:
        return {}
    if short not in classes:
        raise unknown(f"search.{key}", short, [*classes, *[AUTO] * (key == "pruner")])
    parameters = inspect.signature(classes[short]).parameters.values()
    found = {one.name: None if one.default is one.empty else one.default for one in parameters if one.name != "seed"}
    return {name: value for name, value in found.items() if isinstance(value, PLAIN)} | dict(DEFAULTS.get(short, {}))


def given(key: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the short name of a class, and its arguments that are not the defaults, as fields of a search.

    Raises:
        UsageError: there is no such class, or it refuses its arguments.
    """
    defaults, own = arguments_of(key, str(values[key])), f"{key}_args"
    name, changed = _short(str(values[key]), key.capitalize()), {}
    if defaults:
        changed = {one: value for one, value in values[own].items() if value != defaults[one]}
        try:
            _made(SAMPLERS if key == "sampler" else PRUNERS, name, changed)
        except (TypeError, ValueError) as error:
            raise UsageError(f"search.{key}={name}: {error}; its arguments are keys of search.{own}") from error
    return {key: name, own: changed}


def sampler_of(name: str, arguments: Mapping[str, Any], *, seed: int, first_seed: int) -> samplers.BaseSampler:
    """Return a sampler.

    Args:
        seed: for this draw.
        first_seed: of the search, for a sequence that all draws continue.
    """
    sampler: samplers.BaseSampler = _made(SAMPLERS, name, arguments, seed=first_seed if name == "qmc" else seed)
    return sampler


class OutsideNoise(pruners.BasePruner):
    """Prunes as another pruner does, but no trial whose last value is within the noise of the best one there.

    Args:
        noise: differences that two equal runs can have, by the number of the point; points that it lacks have none.
    """

    def __init__(self, pruner: pruners.BasePruner, noise: Mapping[int, float]) -> None:
        self._pruner = pruner
        self._noise = noise

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        point = trial.last_step
        if point is None or not self._pruner.prune(study, trial):
            return False
        trials = study.get_trials(deepcopy=False)
        values = [one.intermediate_values[point] for one in trials if point in one.intermediate_values]
        sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1
        best = min((sign * value for value in values if not math.isnan(value)), default=math.nan)
        worse = sign * trial.intermediate_values[point] - best
        if point not in self._noise or not worse <= self._noise[point]:  # nan is outside
            return True
        note = f"not pruned at point {point}, where it is {worse:.2g} worse than the best: within the noise"
        study._storage.set_trial_user_attr(trial._trial_id, KEPT, f"{note}, {self._noise[point]:.2g}")
        return False


def pruner_of(
    name: str, arguments: Mapping[str, Any], num_points: int, noise: Mapping[int, float]
) -> pruners.BasePruner:
    """Return a pruner of trials that report ``num_points`` points of their held-out curve, with this noise."""
    return OutsideNoise(_made(PRUNERS, name, arguments, max_resource=max(num_points, MIN_POINTS)), noise)


def _made(classes: Mapping[str, type[Any]], name: str, arguments: Mapping[str, Any], **values: Any) -> Any:
    """Return an object of a class with these arguments and our defaults, and those of the values that it has."""
    known = inspect.signature(classes[name]).parameters
    own = {key: value for key, value in values.items() if key in known}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return classes[name](**{**own, **DEFAULTS.get(name, {}), **arguments})
