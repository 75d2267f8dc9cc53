"""Metrics that some finished runs of a study lack though they could have them, and what measures these."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from aimv2.ablations.request import Request
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.items import Run
from aimv2.base.errors import count
from aimv2.spec.metrics import is_ours
from aimv2.spec.plugin_metrics import METRICS

AGAIN = "runs_again"  # a folder of runs that the command suggests


@dataclass(frozen=True)
class Lacking:
    """A metric that finished runs lack.

    Attributes:
        runs: these, by arm and seed.
        num_finished: finished runs of the study.
        command: measures the metric.
    """

    metric: str
    runs: Sequence[Run]
    num_finished: int
    command: str

    @property
    def text(self) -> str:
        """The fact as a clause."""
        verb = "lacks" if self.num_finished == 1 else "lack"
        return f"{len(self.runs)} of {count(self.num_finished, 'finished run')} {verb} {self.metric}"

    @property
    def seeds_by_arm(self) -> dict[str, list[int]]:
        """The seeds of these runs, by arm."""
        return {arm: sorted(seed for name, seed in self.runs if name == arm) for arm, _ in self.runs}


def lacking(request: Request, evidence: Evidence) -> list[Lacking]:
    """Return which finished runs lack the primary metric, or one that was measured on others after training.

    Runs that cannot have a metric, whose objective or data it does not apply to, do not lack it. Nor does any run lack
    a metric that no run has, such as one whose function fails, unless the study is decided by it.
    """
    known = {metric.name: metric.typed for metric in request.metrics}
    finished = evidence.runs_of(evidence.runs)
    primary = request.study.primary_metric
    answered = {metric: evidence.answered(metric) for metric in dict.fromkeys([primary, *known])}
    answered = {metric: runs for metric, runs in answered.items() if runs or metric == primary}
    lacks = {metric: [run for run in finished if run not in runs] for metric, runs in answered.items()}
    return [
        Lacking(metric, runs, len(finished), _command(request, metric, known.get(metric)))
        for metric, runs in lacks.items()
        if runs
    ]


def _command(request: Request, metric: str, typed: str | None) -> str:
    """Return what measures a metric.

    Args:
        typed: how it was named when it was measured on other runs; None if it was not.
    """
    if is_ours(metric):  # newer code has it
        words = ["measure", request.folder, f"to={AGAIN}"]
    else:
        plugin = METRICS.plugin_of(metric)
        file = "FILE:" if plugin is None else "" if plugin.module else f"{plugin.name}:"
        words = ["evaluate", request.folder, f"metric={typed or f'{file}{metric}'}"]
    return shlex.join(["python", "sweeps/manage.py", *words])
