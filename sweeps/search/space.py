"""The space of a search: the factors of a study as Optuna's distributions, and the run of each point."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import ValidationError

from aimv2.ablations.budget import matched
from aimv2.ablations.design import Factor, Range
from aimv2.ablations.study import Study
from aimv2.base.errors import UsageError, unknown
from aimv2.config.arguments import explain
from aimv2.config.paths import replaced, value_at
from aimv2.config.program import Program
from aimv2.config.run_config import RunConfig
from aimv2.run.price import max_train_flops
from aimv2.spec.metrics import SCENE_TASKS, TASKS, lower_is_better, metric_names, not_applicable, set_names, unit_of
from aimv2.spec.objectives import Report, objective
from aimv2.spec.programs import check
from aimv2.spec.used import with_plugins
from aimv2.sweeps.search.config import AUTO, NO_PRUNER, SearchConfig

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Direction = Literal["minimize", "maximize"]
Point = Mapping[str, Any]  # a level's name, or a number, by factor

SPLIT = "validation"
ARM = "arm "  # how the keys of arms begin in a definition
# Samplers that learn from pruned trials, or learn nothing; with the others pruning would leave random points.
LEARN_FROM_PRUNED = ("tpe", "qmc", "random", "bruteforce")
EQUAL_SD = NormalDist().inv_cdf(0.975)  # standard deviations that two equal trials differ by at most, in 95 % of cases
COSTS = {"train_flops": "FLOPs"}  # what a result has besides its metrics, with its unit
# What is measured while a run trains, by the first report of its objective, and its direction.
CURVES: Mapping[Report, tuple[str, Direction]] = {
    "captions": ("held_out_caption_loss", "minimize"),
    "pixels": ("held_out_pixel_loss", "minimize"),
    "retrieval": ("held_out_recall", "maximize"),
}


@dataclass(frozen=True, eq=False)
class Search:
    """A search over the factors of a study.

    Attributes:
        name: of its folder and report.
        study: whose design has the space.
        base: the run that points change.
        seeds: those that confirm the winner.
        curves: the standard deviation of the difference between two trials, by the column of a held-out curve and the
            samples at its points; empty if it was not measured.
    """

    name: str
    study: Study
    base: RunConfig
    config: SearchConfig
    seeds: tuple[int, ...]
    curves: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, base: Program, **values: Any) -> Self:
        """Return the search on this base run; refuse the program of another model.

        Raises:
            UsageError: it is none of AIMv2.
        """
        if not isinstance(base, RunConfig):
            raise UsageError(f"search=optuna searches runs of AIMv2, and this study has runs of {base.kind}")
        return cls(base=base, **values)

    def check(self) -> None:
        """Refuse a search that is impossible or means something else than it seems to.

        Raises:
            UsageError: one sentence.
        """
        sweep, config = self.study.slug, self.config
        if not self.study.design.space or all(_size(factor) == 1 for factor in self.study.design.space.values()):
            raise UsageError(f"search=optuna has nothing to vary: the factors of sweep={sweep} have one level each")
        allowed = [*tunable(self.base), *COSTS]
        for metric in self.metrics:
            if metric not in allowed:
                raise unknown("search.metrics", metric, allowed)
        if all(metric in COSTS for metric in self.metrics):
            raise UsageError(f"search.metrics={list(self.metrics)} has costs only; add a metric such as content_loss")
        ranges = [factor for factor in self.study.design.space.values() if isinstance(factor, Range)]
        if config.sampler == "cmaes" and (len(ranges) < 2 or len(ranges) < len(self.study.design.space)):
            raise UsageError(
                f"search.sampler=cmaes needs two ranges of numbers or more and nothing else; sweep={sweep} has"
                f" {', '.join(self.study.design.space)}. Take another one, such as tpe."
            )
        if config.pruner not in (AUTO, NO_PRUNER) and (reason := self._unpruned):
            raise UsageError(f"search.pruner={config.pruner} is not possible: {reason}. Allowed here: none.")
        if config.seed in self.seeds:
            raise UsageError(f"search.seed={config.seed} is among sweep.seeds, which confirm the winner; take another")
        if not self.examples:  # it raises itself if the ends of ranges are impossible
            raise UsageError(f"no point of the space of sweep={sweep} is a possible run")

    @property
    def metrics(self) -> tuple[str, ...]:
        return self.config.metrics or (self.study.primary_metric,)

    @property
    def directions(self) -> list[Direction]:
        return ["minimize" if metric in COSTS or lower_is_better(metric) else "maximize" for metric in self.metrics]

    @property
    def units(self) -> list[str]:
        return [COSTS.get(metric) or unit_of(metric) for metric in self.metrics]

    @property
    def curve(self) -> str | None:
        """The column of a run's rows by which trials are pruned; None with several metrics, or if not all of them have
        the same one."""
        return None if self._report is None or len(self.metrics) > 1 else CURVES[self._report][0]

    @cached_property
    def _report(self) -> Report | None:
        reports = {objective(run.objective.name).reports[:1] for run in self.examples}
        return next(iter(reports))[0] if len(reports) == 1 and () not in reports else None

    @property
    def sign(self) -> float:
        """The factor of a curve that is reported: Optuna compares it in the direction of the first metric."""
        return 1.0 if self._report is None or CURVES[self._report][1] == self.directions[0] else -1.0

    @property
    def pruner(self) -> str:
        if self.config.pruner != AUTO:
            return self.config.pruner
        return NO_PRUNER if self._unpruned else "asha"

    @property
    def _unpruned(self) -> str:
        """Why no trial can be pruned; empty if it can."""
        if len(self.metrics) > 1:
            return f"Optuna prunes no search of several metrics, here {', '.join(self.metrics)}"
        if self.config.sampler not in LEARN_FROM_PRUNED:
            return f"search.sampler={self.config.sampler} learns from finished trials only"
        if self.curve is None:
            return "its runs do not all have the same held-out curve"
        return ""

    @property
    def noise(self) -> dict[int, float]:
        """The largest difference between two equal trials (95 %), by the number of a point of the curve."""
        measured, batch = self.curves.get(self.curve or "", {}), self.base.budget.batch_size
        samples = {number: step * batch for number, step in enumerate(self.base.curve_steps)}
        return {number: EQUAL_SD * measured[one] for number, one in samples.items() if one in measured}

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        return {
            name: FloatDistribution(factor.low, factor.high, log=factor.log)
            if isinstance(factor, Range)
            else CategoricalDistribution(list(factor))
            for name, factor in self.study.design.space.items()
        }

    def run(self, point: Point, seed: int | None = None) -> RunConfig:
        """Return the run of a point.

        Args:
            seed: by default that of the search.

        Raises:
            UsageError: there is no such run.
        """
        try:
            changed = self.study.design.point(point).change(self.base)
            baseline = self.study.arms[self.study.baseline].change(self.base)
            matching: RunConfig = matched(changed, baseline, self.study.equal)
            seed = self.config.seed if seed is None else seed
            run = replaced(matching.with_seed(seed), {"evaluation.split": SPLIT})
            run = with_plugins(run)
            check(run)
        except (ValidationError, UsageError) as error:
            cause = explain(error) if isinstance(error, ValidationError) else error
            raise UsageError(f"the point {described(point)} cannot exist: {cause}") from error
        return run

    @cached_property
    def points(self) -> dict[str, Point] | None:
        """The points of a finite space that are possible, by the name of their run; None if it is not finite."""
        space = self.study.design.space
        if any(isinstance(factor, Range) for factor in space.values()):
            return None
        found: dict[str, Point] = {}
        levels = [list(factor) for factor in space.values() if not isinstance(factor, Range)]
        for chosen in itertools.product(*levels):
            if not self.study.design.excludes(*chosen):
                try:
                    found.setdefault(self.run(point := dict(zip(space, chosen, strict=True))).name, point)
                except UsageError:
                    continue
        return found

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
        run = self.study.arms[self.study.baseline].change(self.base)
        if self.points is not None:
            wanted = with_plugins(replaced(run.with_seed(self.config.seed), {"evaluation.split": SPLIT})).name
            return self.points.get(wanted)
        ranges = {name: factor for name, factor in self.study.design.space.items() if isinstance(factor, Range)}
        point = {name: value_at(run, name) for name in ranges}
        is_inside = len(ranges) == len(self.study.design.space) and all(
            value is not None and ranges[name].low <= value <= ranges[name].high for name, value in point.items()
        )
        return point if is_inside else None

    @cached_property
    def costliest(self) -> RunConfig:
        """The one of the examples with the most training FLOPs."""
        return max(self.examples, key=lambda run: max_train_flops(run, run.budget.samples))

    @cached_property
    def examples(self) -> list[RunConfig]:
        """The runs of all points of a finite space, and of the ends of ranges otherwise."""
        return [self.run(point) for point in (self._corners() if self.points is None else self.points.values())]

    def _corners(self) -> Iterator[Point]:
        """Yield the ends of each range, with the first levels of the other factors."""
        space = self.study.design.space
        first = {name: one.low if isinstance(one, Range) else next(iter(one)) for name, one in space.items()}
        yield first
        for name, factor in space.items():
            if isinstance(factor, Range):
                yield first | {name: factor.high}

    def definition(self) -> dict[str, Any]:
        """Return what makes a search this one, as JSON has it; trials of another one cannot be continued."""
        arms = self.study.arms.items()
        return {
            **{key: value for key, value in self.base.identity.items() if key != "seed"},
            "space": {name: _described(factor) for name, factor in self.study.design.space.items()},
            **{f"{ARM}{name}": arm.change(self.base).with_seed(0).name for name, arm in arms},
            "search.metrics": list(self.metrics),
            "search.sampler": self.config.sampler,
            "search.sampler_args": self.config.sampler_args,
            "search.pruner": self.pruner,
            "search.pruner_args": self.config.pruner_args,
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


def _size(factor: Factor | Range) -> float:
    return len(factor) if not isinstance(factor, Range) else 1 if factor.low == factor.high else math.inf


def _described(factor: Factor | Range) -> Any:
    if isinstance(factor, Range):
        return {"low": factor.low, "high": factor.high, "log": factor.log}
    return {name: level.label for name, level in factor.items()}
