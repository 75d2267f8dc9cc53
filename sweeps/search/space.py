"""The space of a search: the factors of a study as Optuna's distributions, and the run of each point."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from aimv2.ablations.design import Factor, Range
from aimv2.ablations.searches import Direction, SearchMetric
from aimv2.ablations.study import Study, matched
from aimv2.base.errors import UsageError, unknown
from aimv2.config.arguments import explain
from aimv2.config.program import Program, replaced, value_at
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
from aimv2.definitions.objectives import Report, objective
from aimv2.definitions.programs import check, max_train_flops, with_plugins
from aimv2.sweeps.search.config import NO_PRUNER, SearchConfig

if TYPE_CHECKING:  # Optuna takes a second to load
    import optuna

Point = Mapping[str, Any]  # a level's name, or a number, by factor

SPLIT = "validation"
ARM = "arm "  # how the keys of arms begin in a definition
# Samplers that learn from pruned trials, or learn nothing; with the others pruning would leave random points.
LEARN_FROM_PRUNED = ("tpe", "qmc", "random")
# What is measured while a run trains, by the first report of its objective, and its direction.
CURVES: Mapping[Report, tuple[str, Direction]] = {
    "captions": ("held_out_caption_loss", "minimize"),
    "pixels": ("held_out_pixel_loss", "minimize"),
    "retrieval": ("held_out_recall", "maximize"),
}


@dataclass(frozen=True, eq=False)
class Search:
    """A search over the factors of a study."""

    name: str  # of its folder and report
    study: Study  # whose design has the space
    base: RunConfig  # the run that points change
    config: SearchConfig
    seeds: tuple[int, ...]  # those that confirm the winner

    @classmethod
    def of(cls, base: Program, **values: Any) -> Self:
        """Return the search on this base run; refuse the program of another model."""
        if not isinstance(base, RunConfig):
            raise UsageError(f"search=optuna searches runs of AIMv2, and this study has runs of {base.kind}")
        return cls(base=base, **values)

    def check(self) -> None:
        """Refuse a search that is impossible or means something else than it seems to."""
        sweep, config, space = self.study.slug, self.config, self.study.design.space
        ranges = [factor for factor in space.values() if isinstance(factor, Range)]
        has_choice = any(factor.low < factor.high for factor in ranges)
        if not has_choice and all(isinstance(factor, Range) or len(factor) == 1 for factor in space.values()):
            raise UsageError(f"search=optuna has nothing to vary: the factors of sweep={sweep} have one level each")
        if self.metric not in (allowed := tunable(self.base)):
            raise unknown("search.metric", self.metric, allowed)
        if config.pruner not in ("auto", NO_PRUNER) and (reason := self._unpruned):
            raise UsageError(f"search.pruner={config.pruner} is not possible: {reason}. Allowed here: none.")
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

    @property
    def curve(self) -> str | None:
        """The column of a run's rows by which trials are pruned; None if not all of them have the same one."""
        return None if self._report is None else CURVES[self._report][0]

    @cached_property
    def _report(self) -> Report | None:
        reports = {objective(run.objective.name).reports[:1] for run in self.examples}
        return next(iter(reports))[0] if len(reports) == 1 and () not in reports else None

    @property
    def sign(self) -> float:
        """The factor of a curve that is reported: Optuna compares it in the direction of the metric."""
        return 1.0 if self._report is None or CURVES[self._report][1] == self.goal.direction else -1.0

    @property
    def pruner(self) -> str:
        if self.config.pruner != "auto":
            return self.config.pruner
        return NO_PRUNER if self._unpruned else "asha"

    @property
    def _unpruned(self) -> str:
        """Why no trial can be pruned; empty if it can."""
        if self.config.sampler not in LEARN_FROM_PRUNED:
            return f"search.sampler={self.config.sampler} learns from finished trials only"
        return "its runs do not all have the same held-out curve" if self.curve is None else ""

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
            "space": {name: _described(factor) for name, factor in self.study.design.space.items()},
            **{f"{ARM}{name}": arm.change(self.base).with_seed(0).name for name, arm in arms},
            "search.metrics": [self.metric],
            "search.sampler": self.config.sampler,
            "search.sampler_args": {},  # which older searches could have
            "search.pruner": self.pruner,
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


def _described(factor: Factor | Range) -> Any:
    if isinstance(factor, Range):
        return {"low": factor.low, "high": factor.high, "log": factor.log}
    return {name: level.label for name, level in factor.items()}
