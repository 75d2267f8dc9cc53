"""Optuna's samplers and pruners by their names.

There is no grid sampler: the arms of a study are a grid, and Optuna's repeats points when several workers draw from it.
"""

import warnings
from collections.abc import Callable, Mapping

import optuna
from optuna import pruners, samplers
from optuna.samplers import BaseSampler

MIN_POINTS = 1  # of the held-out curve, before a trial can be pruned
REDUCTION = 2  # at each rung of successive halving, one in so many trials goes on
SAMPLERS: Mapping[str, Callable[[int, int], BaseSampler]] = {
    "tpe": lambda seed, _: samplers.TPESampler(seed=seed, constant_liar=True),
    "cmaes": lambda seed, _: samplers.CmaEsSampler(seed=seed, n_startup_trials=4),
    "gp": lambda seed, _: samplers.GPSampler(seed=seed, deterministic_objective=True),
    "nsga2": lambda seed, _: samplers.NSGAIISampler(seed=seed, population_size=16),
    "qmc": lambda _, first: samplers.QMCSampler(seed=first, scramble=True, warn_independent_sampling=False),
    "random": lambda seed, _: samplers.RandomSampler(seed=seed),
}


def sampler_of(name: str, *, seed: int, first_seed: int) -> BaseSampler:
    """Return a sampler.

    Args:
        seed: for this draw.
        first_seed: of the search, for a sequence that all draws continue.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[name](seed, first_seed)


def pruner_of(name: str, num_points: int) -> pruners.BasePruner:
    """Return a pruner of trials that report ``num_points`` points of their held-out curve."""
    if name == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=MIN_POINTS, reduction_factor=REDUCTION)
    if name == "hyperband":
        return pruners.HyperbandPruner(
            min_resource=MIN_POINTS, max_resource=max(num_points, MIN_POINTS), reduction_factor=REDUCTION
        )
    if name == "median":
        return pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=MIN_POINTS)
    if name == "wilcoxon":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return pruners.WilcoxonPruner(p_threshold=0.1)
    return pruners.NopPruner()
