"""The results of a study's runs as tables, wherever they come from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from aimv2.analysis.inference.intervals import UNLIMITED, Estimate, arm_mean
from aimv2.analysis.inference.items import ItemMoments, Run
from aimv2.base.errors import REASONS

CELL = ["arm", "seed"]
METRIC_COLUMNS = [*CELL, "metric", "value", "unit", "evaluation", "warning"]
MIXTURE_COLUMNS = [*CELL, "source", "samples", "dense", "epochs", *REASONS]
BILL_COLUMNS = ["arm", "outcome", "hardware", "attempts", "seconds", "gpu_hours", "core_hours"]
MISSING_COLUMNS = [*CELL, "run", "reason", "has_failed"]
HELD_OUT = "held_out_"  # begins the columns of a curve that are measured on held-out data
LIMITS = {"accuracy": (0.0, 1.0)}  # of possible values, by unit


@dataclass(frozen=True, eq=False)
class Evidence:
    """The results of a study's runs: tables with a row per finished cell, which have its ``arm`` and ``seed``."""

    runs: pd.DataFrame  # ``run``, cost and provenance
    metrics: pd.DataFrame  # a row per metric; its ``warning`` says what makes the value doubtful, or is empty
    not_applicable: pd.DataFrame  # the same for metrics that a cell's objective does not have, without a value
    curves: pd.DataFrame  # a row per step at which held-out values were measured
    missing: pd.DataFrame  # a row per cell without a result; ``has_failed`` is False if it is merely unfinished
    examples: dict[str, list[dict[str, Any]]]  # captions of the first finished seed of each arm
    # All attempts, by arm, outcome (``runs.record``) and hardware. A run of several arms is in the first one's.
    bill: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=BILL_COLUMNS))
    items: ItemMoments = field(default_factory=ItemMoments)  # what evaluation items contribute to errors
    # A row per source: ``samples``, of which ``dense`` with a dense caption, and the bad ones by reason.
    mixture: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=MIXTURE_COLUMNS))
    # Sources and labelled sets, a line of plain text with the licence of each, as stated when the runs were loaded.
    credits: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"sources": [], "sets": []})

    @cached_property
    def codes(self) -> Mapping[str, int]:
        """The number of finished runs by the digest of their code; older runs did not record it."""
        if "code" not in self.runs:
            return {}
        return Counter(self.runs.drop_duplicates("run")["code"].replace("", "not recorded"))

    @property
    def curve(self) -> str:
        """The held-out column with the most points, as objectives differ in theirs; empty if there is none."""
        columns = [name for name in self.curves.columns if name.startswith(HELD_OUT)]
        return max(columns, key=lambda name: self.curves[name].count(), default="")

    def values(self, metric: str) -> pd.DataFrame:
        """Return a metric with a row per seed and a column per arm."""
        if metric not in self._values:
            chosen = self.metrics[self.metrics["metric"] == metric]
            self._values[metric] = chosen.pivot(index="seed", columns="arm", values="value")
        return self._values[metric]

    @cached_property
    def _values(self) -> dict[str, pd.DataFrame]:
        return {}

    def value(self, metric: str, arm: str) -> pd.Series:
        """Return an arm's metric by seed; empty if it has none."""
        return self.values(metric).get(arm, pd.Series(dtype=float))

    def mean(self, metric: str, arm: str) -> Estimate:
        """Return an arm's mean of a metric over seeds, with an interval within the values that its unit allows."""
        return arm_mean(self.value(metric, arm), LIMITS.get(self.unit(metric), UNLIMITED))

    def num_failed(self, arm: str) -> int:
        return self._num_failed[arm]

    @cached_property
    def _num_failed(self) -> Counter[str]:
        return Counter(self.missing["arm"][self.missing["has_failed"].astype(bool)])

    def num_runs(self, arm: str) -> int:
        """Return the number of an arm's runs, with or without a result."""
        return self._num_runs[arm]

    @cached_property
    def _num_runs(self) -> Counter[str]:
        return Counter(self.runs["arm"]) + Counter(self.missing["arm"])

    def dense_share(self, arm: str) -> float | None:
        """Return the share of an arm's training samples that showed a dense caption; None if it is not recorded."""
        of_arm = self.mixture[self.mixture["arm"] == arm]
        return float(of_arm["dense"].sum() / of_arm["samples"].sum()) if of_arm["samples"].sum() else None

    @staticmethod
    def runs_of(table: pd.DataFrame) -> list[Run]:
        """Return arm and seed of each row."""
        return list(zip(table["arm"], table["seed"].astype(int), strict=True)) if len(table) else []

    def answered(self, metric: str) -> set[Run]:
        """Return arm and seed of the finished runs that have a metric, or cannot have it."""
        tables = (table[table["metric"] == metric] for table in (self.metrics, self.not_applicable))
        return {run for table in tables for run in self.runs_of(table)}

    def why_absent(self, metric: str) -> str:
        """Return why no finished run has a metric, which data or objective cannot have; empty if one has it."""
        if len(self.values(metric)):
            return ""
        return str(next(iter(self.not_applicable.loc[self.not_applicable["metric"] == metric, "evaluation"]), ""))

    def unit(self, metric: str) -> str:
        """Return the metric's unit; empty if it was not measured."""
        return self._texts.get(metric, {}).get("unit", "")

    def evaluation(self, metric: str) -> str:
        """Return how the metric was measured; empty if it was not."""
        return self._texts.get(metric, {}).get("evaluation", "")

    @cached_property
    def _texts(self) -> dict[Any, dict[Any, str]]:
        """Unit and evaluation of each metric."""
        firsts = self.metrics.drop_duplicates("metric").set_index("metric")
        return firsts[["unit", "evaluation"]].astype(str).to_dict("index")

    @property
    def results(self) -> pd.DataFrame:
        """A row per finished cell with its final metrics as columns, named with their units."""
        if self.metrics.empty:
            return self.runs
        named = self.metrics.assign(column=self.metrics["metric"] + " [" + self.metrics["unit"] + "]")
        wide = named.pivot(index=CELL, columns="column", values="value")
        return self.runs.merge(wide[list(dict.fromkeys(named["column"]))], on=CELL)
