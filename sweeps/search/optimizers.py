"""Optuna's samplers and pruners, with their arguments, by their names.

A name is that of Optuna's class, or that without its ending in lower case: ``tpe`` is ``TPESampler``. Left out are
those that need an object or a grid of values: the arms of a study are a grid, and Optuna's ``GridSampler`` repeats
points when several workers draw from it.
"""

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from types import NoneType
from typing import Any

import optuna
from optuna import pruners, samplers

from aimv2.base.errors import UsageError, unknown
from aimv2.config.arguments import checked
from sweeps.search.config import AUTO, NO_PRUNER

MIN_POINTS = 1  # of the held-out curve, before a trial can be pruned
REDUCTION = 2  # at each rung of successive halving, one in so many trials continues
# Types of arguments that a command line can give, by their annotation.
PLAIN: Mapping[str, Any] = {"bool": bool, "int": int, "float": float, "str": str, "None": NoneType}
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


@dataclass(frozen=True)
class Optimizers:
    """The classes of a module of Optuna.

    Attributes:
        key: ``sampler`` or ``pruner``, with which names of the classes end.
        module: of Optuna.
        more: names that are allowed besides, and have no arguments.
    """

    key: str
    module: Any
    more: tuple[str, ...] = ()

    @cached_property
    def classes(self) -> dict[str, type[Any]]:
        """The classes by their short names."""
        ending = self.key.capitalize()
        found = (getattr(self.module, name) for name in self.module.__all__ if name.endswith(ending))
        usable = {one.__name__.removesuffix(ending).lower(): one for one in found if _is_usable(one)}
        return {USUAL_NAMES.get(name, name): one for name, one in usable.items()}

    def short(self, name: object) -> str:
        """Return the short name of a class, given that or the name of the class.

        Raises:
            UsageError: there is no such class.
        """
        by_name = {one.__name__: short for short, one in self.classes.items()}
        found = by_name.get(str(name), str(name))
        if found not in (allowed := [*self.more, *self.classes]):
            raise unknown(f"search.{self.key}", found, allowed)
        return found

    def defaults(self, name: str) -> dict[str, Any]:
        """Return the arguments of a class that a command line can give, with their defaults."""
        if (short := self.short(name)) not in self.classes:
            return {}
        own = {key: None if one.default is one.empty else one.default for key, one in self._arguments(short).items()}
        return own | dict(DEFAULTS.get(short, {}))

    def given(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that are not the defaults.

        Raises:
            UsageError: a value has another type or is missing, or the class refuses it.
        """
        if name not in self.classes:
            return {}
        key, defaults, arguments = f"search.{self.key}_args", self.defaults(name), self._arguments(name)
        changed = {one: value for one, value in values.items() if value != defaults[one]}
        changed = {one: checked(f"{key}.{one}", _kind(arguments[one]), value) for one, value in changed.items()}
        if needed := [
            one for one in arguments if arguments[one].default is inspect.Parameter.empty and one not in changed
        ]:
            raise UsageError(f"search.{self.key}={name} needs a value; type {key}.{needed[0]}=")
        try:
            self.make(name, changed)
        except (TypeError, ValueError) as error:
            raise UsageError(f"search.{self.key}={name}: {error}; its arguments are keys of {key}") from error
        return changed

    def _arguments(self, name: str) -> dict[str, inspect.Parameter]:
        """Return the arguments that a command line can give, but for the seed, which is that of the search."""
        parameters = inspect.signature(self.classes[name]).parameters
        return {key: one for key, one in parameters.items() if key != "seed" and _kind(one) is not None}

    def make(self, name: str, arguments: Mapping[str, Any], **more: Any) -> Any:
        """Return an object of a class with these arguments; ``more`` are values of those that it has."""
        kind = self.classes[name]
        taken = {key: value for key, value in more.items() if key in inspect.signature(kind).parameters}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return kind(**{**taken, **DEFAULTS.get(name, {}), **arguments})


SAMPLERS = Optimizers("sampler", samplers)
PRUNERS = Optimizers("pruner", pruners, more=(AUTO,))


def sampler_of(name: str, arguments: Mapping[str, Any], *, seed: int, first_seed: int) -> samplers.BaseSampler:
    """Return a sampler.

    Args:
        seed: for this draw.
        first_seed: of the search, for a sequence that all draws continue.
    """
    sampler: samplers.BaseSampler = SAMPLERS.make(name, arguments, seed=first_seed if name == "qmc" else seed)
    return sampler


def pruner_of(name: str, arguments: Mapping[str, Any], num_points: int) -> pruners.BasePruner:
    """Return a pruner of trials that report ``num_points`` points of their held-out curve."""
    pruner: pruners.BasePruner = PRUNERS.make(name, arguments, max_resource=max(num_points, MIN_POINTS))
    return pruner


def _is_usable(kind: type[Any]) -> bool:
    """True if a command line can give all that a class needs."""
    needed = [one for one in inspect.signature(kind).parameters.values() if one.default is one.empty]
    return "Base" not in kind.__name__ and None not in map(_kind, needed)


def _kind(parameter: inspect.Parameter) -> Any:
    """Return the type of an argument, a union of plain types; None if it is another one."""
    annotation = parameter.annotation
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    parts = [PLAIN.get(name.strip(), object) for name in text.split("|")]
    return None if object in parts else reduce(or_, parts)
