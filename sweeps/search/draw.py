"""The next point of a search: a new one, whatever the sampler repeats."""

import contextlib
import copy
import random
from collections.abc import Collection
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from aimv2.base.errors import UsageError
from aimv2.config.program import Program
from aimv2.sweeps.search.optimizers import sampler_of
from aimv2.sweeps.search.space import Point, Search

# Draws of the sampler for a point that is possible and new. If points can be listed, the first is enough: one of those
# that are left is then drawn at random.
DRAWS, MAX_DRAWS = 20, 200


def draw(search: Search, study: optuna.Study, used: Collection[str]) -> tuple[Point, Program]:
    """Return the point of the next trial of a study, and its run. No other trial has it, unless that failed before this
    launch.

    The baseline's point comes first. Each draw has a new sampler with its own seed, since a process or a launch
    draws a few trials only.

    Args:
        used: names of the runs of other trials, without those that failed before this launch.

    Raises:
        UsageError: the sampler draws nothing but points that cannot exist.
    """
    config = search.config
    trial = _next(study)
    if search.baseline is not None and (run := search.run(search.baseline)).name not in used:
        return search.baseline, run
    seed = random.Random(f"{config.seed} {trial.number}").randrange(2**32)
    sampler = sampler_of(config.sampler, config.sampler_args, seed=seed, first_seed=config.seed)
    num_draws = MAX_DRAWS if search.points is None else DRAWS
    for _ in range(num_draws):
        point: Point = _drawn(search, study, sampler, trial)
        with contextlib.suppress(UsageError):  # a combination that is impossible
            run = search.run(point)
            if run.name not in used:
                return point, run
    if search.points is None:
        raise UsageError(f"{num_draws} points in a row are impossible or were tried, the last one {point}")
    point = search.points[random.Random(seed).choice([name for name in search.points if name not in used])]
    return point, search.run(point)


def check_sampler(search: Search) -> None:
    """Refuse a sampler that cannot draw from the space.

    Raises:
        UsageError: Optuna's reason.
    """
    config = search.config
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=search.directions)
    sampler = sampler_of(config.sampler, config.sampler_args, seed=config.seed, first_seed=config.seed)
    try:
        _drawn(search, study, sampler, _next(study))
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        space = ", ".join(search.study.design.space)
        raise UsageError(f"search.sampler={config.sampler} cannot draw {space}: {error}") from error


def _next(study: optuna.Study) -> FrozenTrial:
    """Add a trial without a point to a study, and return it."""
    study.add_trial(create_trial(state=TrialState.RUNNING))
    return study.trials[-1]


def _drawn(
    search: Search, study: optuna.Study, sampler: optuna.samplers.BaseSampler, trial: FrozenTrial
) -> dict[str, Any]:
    wanted = search.distributions
    sampler.before_trial(study, trial)
    is_known = isinstance(sampler, optuna.samplers.QMCSampler)  # others learn the space from finished trials
    space = dict(wanted) if is_known else sampler.infer_relative_search_space(study, trial)
    found = sampler.sample_relative(study, trial, space)
    trial = copy.deepcopy(trial)  # with the values so far, on which Optuna's brute force depends
    for name, distribution in wanted.items():
        value = found[name] if name in found else sampler.sample_independent(study, trial, name, distribution)
        trial.params = {**trial.params, name: value}
    return {name: trial.params[name] for name in wanted}
