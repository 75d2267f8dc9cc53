"""The part of an error that comes from the choice of evaluation items.

All runs are evaluated on the same items, so a difference between arms holds for other items only if items are random,
as seeds are. Covariances of the runs over items are all that is needed of the items, whatever their number.
Letters: S seeds, N items, R and T runs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from aimv2.analysis.inference.intervals import Estimate, satterthwaite

Run = tuple[str, int]  # arm and seed
Parts = Mapping[Run, "pd.Series[float]"]  # by run, each item's part in a metric (``influence``), indexed by item


def influence(total_N: np.ndarray, weight_N: np.ndarray) -> np.ndarray:
    """Return each item's part in the ratio sum(total) / sum(weight), such as nats over tokens, linearised around its
    value; their mean is 0 (Cochran 1977, section 6.4)."""
    ratio = total_N.sum() / weight_N.sum()
    return np.asarray((total_N - ratio * weight_N) / weight_N.mean())


def item_covariance(one_RN: np.ndarray, other_TN: np.ndarray) -> np.ndarray:
    """Return the covariance of runs, whose values are means of rows, over the choice of items, float64 [R, T]: of a run
    with itself, its squared standard error; NaN if there is one item."""
    num_items = one_RN.shape[1]
    if num_items < 2:
        return np.full((len(one_RN), len(other_TN)), np.nan)
    one_RN, other_TN = (np.asarray(x, dtype=float) for x in (one_RN, other_TN))
    one_RN, other_TN = (x - x.mean(axis=1, keepdims=True) for x in (one_RN, other_TN))
    return np.asarray(one_RN @ other_TN.T / (num_items * (num_items - 1)))


def item_variance(covariance_SS: np.ndarray) -> tuple[float, float]:
    """Return the mean squares of items and of the rest, each over S N, from ``item_covariance`` of paired differences.

    Two-way crossed random effects: difference = mean + seed + item + rest. The mean square of items contains the rest,
    which the seeds' part of an error contains already. So the variance that items add to the mean difference is the
    first minus the second (Searle, Casella and McCulloch 1992, chapter 4).
    """
    num_seeds = len(covariance_SS)
    of_mean = float(covariance_SS.sum()) / num_seeds**2
    rest = (float(np.trace(covariance_SS)) - num_seeds * of_mean) / (num_seeds * (num_seeds - 1))
    return of_mean, rest


def with_items(estimate: Estimate, covariance_SS: np.ndarray, num_items: int) -> Estimate:
    """Return the estimate of a difference with the items' variance (``item_variance``) added to that over seeds.
    Degrees of freedom are rounded down, so that critical values of many metrics are shared."""
    num_seeds = len(covariance_SS)
    if not estimate.has_interval or num_seeds < 2 or num_items < 2:
        return estimate
    items, rest = item_variance(covariance_SS)
    if items <= rest:
        return replace(estimate, covers="seeds and items")
    parts = [estimate.error**2, items, -rest]
    dfs = [estimate.df, num_items - 1, (num_seeds - 1) * (num_items - 1)]
    return replace(
        estimate,
        error=float(np.sqrt(sum(parts))),
        df=max(int(satterthwaite(parts, dfs) + 1e-6), 1),  # a whole number stays one, whatever its rounding
        covers="seeds and items",
        items_error=float(np.sqrt(items - rest)),
    )


class ItemMoments:
    """The covariances of runs over the choice of items, by pair of metrics; each pair is computed when it is needed."""

    def __init__(self, read: Callable[[str], Parts] = lambda metric: {}) -> None:
        """``read`` returns the parts of a metric, without runs that have none."""
        self._read = read
        self._known: dict[tuple[str, str], pd.DataFrame] = {}
        self._num_items: dict[str, pd.Series[int]] = {}

    @classmethod
    def of(
        cls, known: Mapping[tuple[str, str], pd.DataFrame], num_items: Mapping[str, "pd.Series[int]"]
    ) -> "ItemMoments":
        moments = cls()
        moments._known, moments._num_items = dict(known), dict(num_items)
        return moments

    @classmethod
    def joined(cls, one: "ItemMoments", other: "ItemMoments") -> "ItemMoments":
        """Return the computed moments of two groups of runs, which share no run and were evaluated on the same items.

        The unknown covariance of two runs of different groups is taken to be the mean of the known ones of the same two
        arms with different seeds: all seeds of an arm are alike.
        """
        pairs = one.known.keys() & other.known.keys()
        num_items = {
            name: pd.concat([one.num_items(name), other.num_items(name)])
            for name in sorted({name for pair in pairs for name in pair})
        }
        known = {
            pair: _joined(one.covariance(*pair), other.covariance(*pair))
            for pair in sorted(pairs)
            if all(num_items[name].nunique() == 1 for name in pair)
        }
        return cls.of(known, num_items)

    def of_runs(self, arms: Mapping[Run, str]) -> "ItemMoments":
        """Return the computed moments of these runs, with their arms renamed."""
        known = {}
        num_items: dict[str, pd.Series[int]] = {}
        for pair, covariance in self.known.items():
            rows, columns = ([run for run in runs if run in arms] for runs in (covariance.index, covariance.columns))
            names, than_names = _renamed(rows, arms), _renamed(columns, arms)
            known[pair] = pd.DataFrame(covariance.loc[rows, columns].to_numpy(), names, than_names)
            for metric, runs, index in ((pair[0], rows, names), (pair[1], columns, than_names)):
                num_items[metric] = pd.Series(self.num_items(metric).loc[runs].to_numpy(), index)
        return self.of(known, num_items)

    def only(self, pairs: Iterable[tuple[str, str]]) -> "ItemMoments":
        """Return the moments of those of these pairs of metrics that have items, all computed."""
        known = {pair: covariance for pair in pairs if not (covariance := self.covariance(*pair)).empty}
        return self.of(known, {name: self.num_items(name) for pair in known for name in pair})

    @property
    def known(self) -> Mapping[tuple[str, str], pd.DataFrame]:
        return self._known

    def num_items(self, metric: str) -> "pd.Series[int]":
        """Return the number of a metric's items by arm and seed, without runs that have none."""
        if metric not in self._num_items:
            self._compute(metric, metric)
        return self._num_items[metric]

    def covariance(self, metric: str, other: str) -> pd.DataFrame:
        """Return the covariance over the choice of items of runs in one metric and, in columns, in another; by arm and
        seed; NaN where two runs were not evaluated on the same items."""
        if (other, metric) in self._known:
            return self._known[other, metric].T
        if (metric, other) not in self._known:
            self._compute(metric, other)
        return self._known[metric, other]

    def of_sum(self, parts: Sequence[tuple[str, str, float]]) -> tuple[np.ndarray, int]:
        """Return the covariance [S, S] of sums of arms in metrics with weights, for the seeds in which all have values
        of items, and the number of items; S is 0 if the items differ."""
        if any(self.num_items(metric).empty for _, metric, _ in parts):
            return np.empty((0, 0)), 0
        places = [_places(self.covariance(metric, metric).index, arm) for arm, metric, _ in parts]
        seeds = [seed for seed in places[0] if all(seed in by_seed for by_seed in places)]
        covariance_SS = np.zeros((len(seeds), len(seeds)))
        for (_, metric, weight), place in zip(parts, places, strict=True):
            for (_, than_metric, than_weight), than_place in zip(parts, places, strict=True):
                rows, columns = ([by_seed[seed] for seed in seeds] for by_seed in (place, than_place))
                between = self.covariance(metric, than_metric).to_numpy()
                covariance_SS += weight * than_weight * between[np.ix_(rows, columns)]
        if not seeds or np.isnan(covariance_SS).any():
            return np.empty((0, 0)), 0
        arm, metric, _ = parts[0]
        return covariance_SS, int(self.num_items(metric).loc[(arm, seeds[0])])

    def _compute(self, metric: str, other: str) -> None:
        first = self._read(metric)
        second = first if other == metric else self._read(other)
        self._known[metric, other] = _covariances(first, second)
        for name, parts in ((metric, first), (other, second)):
            counts = pd.Series([len(part) for part in parts.values()], runs_index(parts), dtype="int64")
            self._num_items.setdefault(name, counts)


def _covariances(one: Parts, other: Parts) -> pd.DataFrame:
    covariance_RT = np.full((len(one), len(other)), np.nan)
    groups, other_groups = _by_items(one), _by_items(other)
    for items in groups.keys() & other_groups.keys():
        (rows, one_RN), (columns, other_TN) = groups[items], other_groups[items]
        covariance_RT[np.ix_(rows, columns)] = item_covariance(one_RN, other_TN)
    return pd.DataFrame(covariance_RT, runs_index(one), runs_index(other))


def _joined(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return two blocks of covariances as one, with the rest as ``ItemMoments.joined`` estimates it."""
    both = pd.concat([one, other])
    rows, columns = both.index, both.columns
    values_RT, is_first_R, is_first_T = both.to_numpy().copy(), rows.isin(one.index), columns.isin(one.columns)
    is_between_RT = is_first_R[:, None] != is_first_T
    has_other_seed_RT = rows.get_level_values("seed").to_numpy()[:, None] != columns.get_level_values("seed").to_numpy()
    arm_R, arm_T = (runs.get_level_values("arm").to_numpy() for runs in (rows, columns))
    for arm in set(arm_R):
        for than_arm in set(arm_T):
            is_pair_RT = (arm_R == arm)[:, None] & (arm_T == than_arm)
            known = values_RT[is_pair_RT & has_other_seed_RT & ~is_between_RT]
            if len(known):
                values_RT[is_pair_RT & is_between_RT] = known.mean()
    return pd.DataFrame(values_RT, rows, columns)


def _by_items(parts: Parts) -> dict[bytes, tuple[list[int], np.ndarray]]:
    """Return, by their items, the positions of runs and the parts [R, N]."""
    groups: dict[bytes, list[int]] = {}
    for position, part in enumerate(parts.values()):
        groups.setdefault(part.index.to_numpy().tobytes(), []).append(position)
    rows = list(parts.values())
    return {items: (places, np.stack([rows[place] for place in places])) for items, places in groups.items()}


def _renamed(runs: Iterable[Any], arms: Mapping[Run, str]) -> pd.MultiIndex:
    return runs_index((arms[run], run[1]) for run in runs)


def runs_index(runs: Iterable[Run]) -> pd.MultiIndex:
    """Return an index with the levels ``arm`` and ``seed``."""
    runs = list(runs)
    arms, seeds = pd.Index([arm for arm, _ in runs], dtype="str"), np.array([seed for _, seed in runs], dtype="int64")
    return pd.MultiIndex.from_arrays([arms, seeds], names=["arm", "seed"])


def _places(runs: pd.Index, arm: str) -> dict[int, int]:
    """Return the positions of an arm's runs, by seed."""
    return {seed: place for place, (name, seed) in enumerate(runs) if name == arm}
