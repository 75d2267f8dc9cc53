"""How soon arms reach the baseline's loss, in samples, FLOPs and CPU time, and how far they are ahead."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from aimv2.ablations.budget import Cost
from aimv2.ablations.study import Study
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.intervals import NO_ESTIMATE, Estimate, mean_interval
from aimv2.analysis.inference.survival import RestrictedMean, lead, loss_at, restricted_mean, time_to_reach
from aimv2.analysis.judgement.compare import are_paired
from aimv2.analysis.judgement.guards import COSTS

FRACTIONS = (0.5, 1.0)  # of the baseline's budget, where its loss is the target


@dataclass(frozen=True)
class Convergence:
    """How soon an arm reaches the loss that the baseline has at a fraction of its budget.

    Attributes:
        reached: the cost until then. The target is the baseline's loss with the same seed; for an arm with other seeds
            it is the mean over the baseline's seeds.
        lead: by how much the arm is ahead of the baseline at that fraction of the smaller budget, paired by seed;
            ``NO_ESTIMATE`` for the baseline itself, and for an arm with other seeds.
    """

    reached: RestrictedMean
    lead: Estimate


class Curves:
    """The held-out loss of every run against a cost.

    The cost of a sample is the same throughout a run, so other costs are the samples times the run's mean cost of one.
    """

    def __init__(self, study: Study, evidence: Evidence) -> None:
        self._study = study
        self._evidence = evidence
        self._by_cost: dict[Cost, dict[str, dict[int, pd.Series[float]]]] = {}

    def convergence(self, arm: str, cost: Cost, fraction: float) -> Convergence | None:
        """Return how soon an arm reaches the baseline's loss; None if a curve or a cost was not measured."""
        own, baseline = self._curves(cost).get(arm, {}), self._curves(cost).get(self._study.baseline, {})
        targets = {seed: loss_at(curve, fraction * curve.index[-1]) for seed, curve in baseline.items()}
        if not are_paired(arm, self._study.baseline):
            targets = dict.fromkeys(own, float(np.mean(list(targets.values())))) if targets else {}
        shared = [seed for seed in own if seed in targets]
        if not shared:
            return None
        times = [time_to_reach(own[seed], targets[seed]) for seed in shared]
        reached = restricted_mean(times, [float(own[seed].index[-1]) for seed in shared])
        if arm == self._study.baseline or not are_paired(arm, self._study.baseline):
            return Convergence(reached, NO_ESTIMATE)
        horizon = fraction * min(float(curves[seed].index[-1]) for seed in shared for curves in (own, baseline))
        ahead = np.array([lead(own[seed], baseline[seed], horizon) for seed in shared])
        return Convergence(reached, mean_interval(ahead, size=horizon))

    def _curves(self, cost: Cost) -> Mapping[str, Mapping[int, "pd.Series[float]"]]:
        if cost not in self._by_cost:
            self._by_cost[cost] = self._scaled(cost)
        return self._by_cost[cost]

    def _scaled(self, cost: Cost) -> dict[str, dict[int, "pd.Series[float]"]]:
        """Return the curves by arm and seed; runs whose cost was not measured are left out."""
        evidence, column = self._evidence, COSTS[cost][1]
        if not evidence.curve.endswith("_loss") or column not in evidence.runs:
            return {}  # some objectives have no curve of a loss, which falls
        runs = evidence.runs[(evidence.runs["samples"] > 0) & evidence.runs[column].notna()]
        points = evidence.curves.dropna(subset=[evidence.curve]).sort_values("samples")
        curves = dict(iter(points.groupby(["arm", "seed"])))
        found: dict[str, dict[int, pd.Series[float]]] = {}
        for arm, seed, samples, spent in runs[["arm", "seed", "samples", column]].itertuples(index=False):
            if (arm, seed) in curves:
                rows = curves[arm, seed]
                index = rows["samples"].to_numpy(float) * (float(spent) / samples)
                found.setdefault(arm, {})[seed] = pd.Series(rows[evidence.curve].to_numpy(float), index=index)
        return found
