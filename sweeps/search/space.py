"""A search as it is requested: its keys, the factors of a study as Optuna's distributions, and the run of each point.

Optuna takes a second to load, so it is imported where it is used.
"""

import dataclasses
import itertools
import math
import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic.dataclasses
from pydantic import Field, NonNegativeInt, ValidationError

from aimv2.ablations.design import Range
from aimv2.ablations.searches import Direction, SearchMetric
from aimv2.ablations.study import Study, matched
from aimv2.base.errors import UsageError, unknown
from aimv2.config.arguments import checked, explain
from aimv2.config.data_config import CHECKED
from aimv2.config.program import replaced, value_at
from aimv2.config.run_config import RunConfig
from aimv2.definitions.metrics import (
    SCENE_TASKS,
    TASKS,
    lower_is_better,
    metric_names,
    not_applicable,
    set_names,
    unit_of,
)
from aimv2.definitions.objectives import objective
from aimv2.definitions.programs import check, max_train_flops, with_plugins

if TYPE_CHECKING:
    import optuna

Point = Mapping[str, Any]  # a level's name, or a number, by factor

SPLIT = "validation"
ARM = "arm "  # how the keys of arms begin in a definition
NONE = "none"  # of ``search=``
Sampler = Literal["tpe", "gp", "qmc", "random"]
# Optuna's classes, and arguments that are not its defaults, as searches have few trials and several workers.
SAMPLERS: Mapping[Sampler, tuple[str, Mapping[str, Any]]] = {
    "tpe": ("TPESampler", {"constant_liar": True}),
    "gp": ("GPSampler", {"deterministic_objective": True}),
    "qmc": ("QMCSampler", {"scramble": True, "warn_independent_sampling": False}),
    "random": ("RandomSampler", {}),
}


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class SearchConfig:
    """A search, as a launch requests it with ``search.<field>``.

    Attributes:
        trials: finished ones in all, with those that diverged; failed ones do not count.
        sampler: draws the points; of Optuna's, ``gp`` is a Gaussian process and ``qmc`` a Sobol sequence.
        metric: the final metric to optimise; None for the primary metric of the study.
        seed: of the sampler, and of the runs of all trials. The seeds of the study, which confirm the winner, are
            others.
    """

    trials: Annotated[int, Field(gt=0)] = 24
    sampler: Sampler = "tpe"
    metric: str | None = None
    seed: NonNegativeInt = 500

    def sampler_of(self, seed: int) -> "optuna.samplers.BaseSampler":
        """Return the sampler with a seed for this draw; a sequence, which all draws continue, has the search's."""
        import optuna

        name, arguments = SAMPLERS[self.sampler]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler: optuna.samplers.BaseSampler = getattr(optuna.samplers, name)(
                seed=self.seed if self.sampler == "qmc" else seed, **arguments
            )
        return sampler


def search_values() -> dict[str, dict[str, Any]]:
    """Return the choices of ``search=`` with their keys and defaults."""
    return {NONE: {}, "optuna": dataclasses.asdict(SearchConfig())}


def search_config(values: Mapping[str, Any]) -> SearchConfig:
    """Return the search with the values of a command line; a UsageError starts with the key that is wrong."""
    try:
        config: SearchConfig = checked("search", SearchConfig, dict(values))
    except UsageError as error:
        raise UsageError(str(error).replace("search: ", "search.", 1)) from error
    return config


@dataclasses.dataclass(frozen=True, eq=False)
class Search:
    """A search over the factors of a study."""

    name: str  # of its folder and report
    study: Study  # whose design has the space
    base: RunConfig  # the run that points change
    config: SearchConfig
    seeds: tuple[int, ...]  # those that confirm the winner

    def check(self) -> None:
        """Refuse a search that is impossible or means something else than it seems to."""
        sweep, config, space = self.study.slug, self.config, self.study.design.space
        ranges = [factor for factor in space.values() if isinstance(factor, Range)]
        has_choice = any(factor.low < factor.high for factor in ranges)
        if not has_choice and all(isinstance(factor, Range) or len(factor) == 1 for factor in space.values()):
            raise UsageError(f"search=optuna has nothing to vary: the factors of sweep={sweep} have one level each")
        if self.metric not in (allowed := tunable(self.base)):
            raise unknown("search.metric", self.metric, allowed)
        if config.seed in self.seeds:
            raise UsageError(f"search.seed={config.seed} is among sweep.seeds, which confirm the winner; take another")
        if not self.examples:  # it raises itself if the ends of ranges are impossible
            raise UsageError(f"no point of the space of sweep={sweep} is a possible run")

    @property
    def metric(self) -> str:
        return self.config.metric or self.study.primary_metric

    @property
    def goal(self) -> SearchMetric:
        """The metric with its direction and unit."""
        direction: Direction = "minimize" if lower_is_better(self.metric) else "maximize"
        return SearchMetric(name=self.metric, direction=direction, unit=unit_of(self.metric))

    @cached_property
    def distributions(self) -> "dict[str, optuna.distributions.BaseDistribution]":
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        return {
            name: FloatDistribution(factor.low, factor.high, log=factor.log)
            if isinstance(factor, Range)
            else CategoricalDistribution(list(factor))
            for name, factor in self.study.design.space.items()
        }

    def drawn(
        self, study: "optuna.Study", sampler: "optuna.samplers.BaseSampler", trial: "optuna.trial.FrozenTrial"
    ) -> Point:
        """Return the point that a sampler draws for a trial of a study, as ``Study.ask`` does, but any number of times.

        A Sobol sequence gets the space, which ``ask`` would learn from finished trials only.
        """
        import optuna

        space = self.distributions
        sampler.before_trial(study, trial)
        is_sequence = isinstance(sampler, optuna.samplers.QMCSampler)
        known = dict(space) if is_sequence else sampler.infer_relative_search_space(study, trial)
        point = sampler.sample_relative(study, trial, known)
        return {
            name: point[name] if name in point else sampler.sample_independent(study, trial, name, distribution)
            for name, distribution in space.items()
        }

    def run(self, point: Point, seed: int | None = None) -> RunConfig:
        """Return the run of a point, by default with the search's seed; raises UsageError if there is no such run."""
        try:
            changed = self.study.design.point(point).change(self.base)
            matching: RunConfig = matched(changed, self._baseline_run, self.study.equal)
            seed = self.config.seed if seed is None else seed
            run = replaced(matching.with_seed(seed), {"evaluation.split": SPLIT})
            run = with_plugins(run)
            check(run)
        except (ValidationError, UsageError) as error:
            cause = explain(error) if isinstance(error, ValidationError) else error
            raise UsageError(f"the point {described(point)} cannot exist: {cause}") from error
        return run

    @property
    def _baseline_run(self) -> RunConfig:
        run: RunConfig = self.study.arms[self.study.baseline].change(self.base)
        return run

    @cached_property
    def points(self) -> dict[str, Point] | None:
        """The points of a finite space that are possible, by the name of their run; None if it is not finite."""
        design, points = self.study.design, dict[str, Point]()
        levels = [list(factor) for factor in design.space.values() if not isinstance(factor, Range)]
        if len(levels) < len(design.space):
            return None
        for chosen in itertools.product(*levels):
            point = dict(zip(design.space, chosen, strict=True))
            if not design.excludes(*chosen):
                try:
                    points.setdefault(self.run(point).name, point)
                except UsageError:
                    continue
        return points

    @property
    def num_points(self) -> float:
        return math.inf if self.points is None else len(self.points)

    @property
    def num_trials(self) -> int:
        """The number of trials in all, since a point is tried once."""
        return int(min(self.config.trials, self.num_points))

    @cached_property
    def baseline(self) -> Point | None:
        """The point of the study's baseline; None if the space does not have it."""
        run, space = self._baseline_run, self.study.design.space
        if self.points is not None:
            trial = replaced(run.with_seed(self.config.seed), {"evaluation.split": SPLIT})
            return self.points.get(with_plugins(trial).name)
        point = {}
        for name, factor in space.items():
            value = value_at(run, name) if isinstance(factor, Range) else None
            if not isinstance(factor, Range) or value is None or not factor.low <= value <= factor.high:
                return None
            point[name] = value
        return point

    @cached_property
    def costliest(self) -> RunConfig:
        """The one of the examples with the most training FLOPs."""
        return max(self.examples, key=lambda run: max_train_flops(run, run.budget.samples))

    @cached_property
    def examples(self) -> list[RunConfig]:
        """The runs of all points of a finite space; otherwise of the ends of each range, with the first levels of the
        other factors."""
        if self.points is not None:
            return [self.run(point) for point in self.points.values()]
        space = self.study.design.space
        first = {name: one.low if isinstance(one, Range) else next(iter(one)) for name, one in space.items()}
        others = [first | {name: factor.high} for name, factor in space.items() if isinstance(factor, Range)]
        return [self.run(point) for point in (first, *others)]

    def definition(self) -> dict[str, Any]:
        """Return what makes a search this one, as JSON has it; trials of another one cannot be continued."""
        arms = self.study.arms.items()
        return {
            **{key: value for key, value in self.base.identity.items() if key != "seed"},
            "space": {
                name: {"low": factor.low, "high": factor.high, "log": factor.log}
                if isinstance(factor, Range)
                else {level: setting.label for level, setting in factor.items()}
                for name, factor in self.study.design.space.items()
            },
            **{f"{ARM}{name}": arm.change(self.base).with_seed(0).name for name, arm in arms},
            "search.metrics": [self.metric],
            "search.sampler": self.config.sampler,
            "search.sampler_args": {},  # which older searches could have
            "search.pruner": NONE,  # older searches could have one, with arguments
            "search.pruner_args": {},
            "search.seed": self.config.seed,
            "sweep.equal": self.study.equal,
        }


def described(point: Point) -> str:
    """Return a point in words, such as ``objective.pixel_weight=0.31``."""
    values = (f"{value:.4g}" if isinstance(value, float) else value for value in point.values())
    return " ".join(f"{name}={value}" for name, value in zip(point, values, strict=True))


def tunable(base: RunConfig) -> list[str]:
    """Return the metrics that a search may choose by: those of the run on held-out pairs.

    Other tasks of probes, such as the digits and labelled sets, have one set of test images, which reports read.
    """
    absent = not_applicable(objective(base.objective.name), base)
    tasks = [task for task in (*TASKS, *set_names(base)) if task not in SCENE_TASKS]
    tested = {f"{kind}_{task}" for kind in ("probe", "knn") for task in tasks}
    return [name for name in metric_names(base) if name not in absent and name not in tested]
