"""The keys of a search."""

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass

from aimv2.config.data_config import CHECKED

SamplerName = Literal["tpe", "cmaes", "gp", "nsga2", "qmc", "random"]
PrunerName = Literal["auto", "none", "asha", "hyperband", "median", "wilcoxon"]
MAX_FAILED = 5  # trials of a search, after which no other one is drawn


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SearchConfig:
    """A search, as a launch asks for it with ``search.<field>``.

    Attributes:
        trials: finished and pruned ones in all; failed ones do not count.
        sampler: draws the points: the tree-structured Parzen estimator, CMA-ES, a Gaussian process, NSGA-II, a Sobol
            sequence, or uniform random numbers.
        pruner: ends trials that fall behind; ``auto`` is asynchronous successive halving (ASHA) if the search has one
            metric and its objective is measured while it trains, else none.
        metrics: final metrics to optimise; with several, the search looks for a Pareto front, and the first decides
            about the winner. None is the primary metric of the study.
        seed: of the sampler, and of the runs of all trials. The seeds of the study, which confirm the winner, are
            others.
        repeats: True to draw a point of a finite space again, with the next seed.
        storage: URL of a database for the trials, such as ``postgresql://…``; None is a file in the runs folder.
    """

    trials: Annotated[int, Field(gt=0)] = 24
    sampler: SamplerName = "tpe"
    pruner: PrunerName = "auto"
    metrics: tuple[str, ...] = ()
    seed: NonNegativeInt = 500
    repeats: bool = False
    storage: str | None = None

    def __post_init__(self) -> None:
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"metrics={list(self.metrics)} names a metric twice")


NONE = "none"
SEARCHES: dict[str, dict[str, Any]] = {NONE: {}, "optuna": dataclasses.asdict(SearchConfig())}  # choices of search=
