"""All that a report concludes from a study's runs, before it is put in words."""

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import Cell, untrained_names, with_actual_ratios
from aimv2.ablations.ladder import SLUG, KnownEffect, Ladder, Seen, base_of, nearest_ladder, unmeasured
from aimv2.ablations.recorded_runs import FILE
from aimv2.ablations.request import Request
from aimv2.ablations.searches import Search
from aimv2.ablations.studies.sensitivity import FLOOR
from aimv2.ablations.study import UNTRAINED, WINNER, Study
from aimv2.analysis.evidence.records import Records, read_records
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.intervals import Estimate, is_rounding, size_of
from aimv2.analysis.inference.items import Run
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.differences import Differences
from aimv2.analysis.judgement.sensitivity import MetricSensitivity, margins, sensitivity_by, sensitivity_of
from aimv2.analysis.judgement.verdicts import (
    Comparison,
    Confirmation,
    Verdict,
    confirmation,
    primary_comparisons,
    verdicts,
)
from aimv2.analysis.judgement.withheld import ControlOutcome, Reasons, check_controls
from aimv2.base.errors import count
from aimv2.config.program import Program, value_at
from aimv2.config.run_config import RunConfig
from aimv2.definitions.metrics import is_ours, unit_of

AGAIN = "runs_again"  # a folder of runs that a command suggests


class Lacking(NamedTuple):
    """A metric that finished runs lack though they could have it, these runs, the fact as a clause, and what measures
    it."""

    metric: str
    runs: Sequence[Run]
    text: str
    command: str


def lacking(request: Request, evidence: Evidence) -> list[Lacking]:
    """Return which finished runs lack the primary metric, or one that was measured on others after training.

    Runs that cannot have a metric do not lack it. Nor does any run lack a metric that no run has, such as one whose
    function fails, unless the study is decided by it.
    """
    as_typed = {metric.name: metric.typed for metric in request.metrics}
    finished, primary = evidence.runs_of(evidence.runs), request.study.primary_metric
    metrics = []
    for metric in dict.fromkeys([primary, *as_typed]):
        answered = evidence.answered(metric)
        runs = [run for run in finished if run not in answered]
        if runs and (answered or metric == primary):
            verb = "lacks" if len(finished) == 1 else "lack"
            text = f"{len(runs)} of {count(len(finished), 'finished run')} {verb} {metric}"
            file = as_typed.get(metric, "FILE.py:").rpartition(":")[0]  # empty if it is of an installed package
            plugins = [f"plugins=[{file}]"] if file else []
            words = ["measure", request.folder, *plugins, f"evaluation.metrics=[{metric}]"]
            if is_ours(metric):  # newer code has it
                words = ["measure", request.folder, f"to={AGAIN}"]
            metrics.append(Lacking(metric, runs, text, shlex.join(["python", "sweeps/manage.py", *words])))
    return metrics


@dataclass(frozen=True, eq=False)
class Findings:
    """A study, its runs, and what they show."""

    request: Request
    look: Look
    ladder: Ladder | None  # what a sensitivity study found; None for other studies
    # why verdicts are withheld, with the study: it has the measured margins, and actual values in the labels of arms
    # that miss their ratio
    reasons: Reasons
    comparisons: Mapping[str, Comparison]  # by arm but the baseline, in the primary metric; ``verdicts`` are by claim
    verdicts: Mapping[str, Verdict]
    search: Search | None = None  # that whose winner is compared with the baseline; None for other studies
    unmeasured: str = ""  # what of the sensitivity that the study needs was not measured, as a clause

    @property
    def study(self) -> Study:
        return self.reasons.study

    @property
    def evidence(self) -> Evidence:
        return self.reasons.evidence

    @property
    def controls(self) -> Sequence[ControlOutcome]:
        return self.reasons.controls

    @property
    def sensitivity(self) -> Mapping[str, MetricSensitivity]:
        return self.reasons.sensitivity

    @property
    def differences(self) -> Differences:
        return self.reasons.differences

    @property
    def cells(self) -> Sequence[Cell]:
        return self.request.cells

    @property
    def config(self) -> Program:
        """The baseline's run, of any seed."""
        return self.request.baseline

    @property
    def metric(self) -> str:
        return self.study.primary_metric

    @cached_property
    def unit(self) -> str:
        """The unit of the primary metric; empty if it was not measured."""
        return self.evidence.unit(self.metric)

    @property
    def compares(self) -> bool:
        """True if the study has an arm or a control beside the baseline; a search that the baseline won has none."""
        return len(self.study.conditions) > 1

    @property
    def withheld(self) -> list[str]:
        """Why nothing is concluded in the primary metric; empty if nothing prevents it, or if nothing is compared."""
        return self.reasons.of_primary if self.compares else []

    @property
    def confirmation(self) -> Confirmation | Literal["no winner"]:
        """Whether the winner of a search is better; ``no winner`` if the baseline is best, or no trial is."""
        if self.search is None or self.search.winning is None or WINNER not in self.study.arms:
            return "no winner"
        return confirmation(self.comparisons.get(WINNER), self.withheld)

    @cached_property
    def lacking(self) -> Sequence[Lacking]:
        """The metrics that some finished runs lack, though they could have them."""
        return lacking(self.request, self.evidence)

    @property
    def lacks_primary(self) -> str:
        """How many finished runs lack the primary metric, as a clause; empty if none does."""
        return next((metric.text for metric in self.lacking if metric.metric == self.metric), "")

    @property
    def is_later(self) -> bool:
        """True if the primary metric was measured on finished runs, so that it was not fixed before them."""
        return self.metric in {metric.name for metric in self.request.metrics}

    def judged_by(self, share: Callable[[float], float]) -> "Findings":
        """Return the findings with verdicts at other shares of the look's level."""
        return replace(self, verdicts=verdicts(self.reasons, self.config, self.look.level, share))

    def present(self, arms: Sequence[str]) -> list[str]:
        """Return these arms, controls and untrained encoders in the order of reports."""
        return [arm for arm in self.study.cell_names if arm in set(arms)]


def judge(
    request: Request,
    evidence: Evidence,
    this_look: Look,
    sensitivity: Mapping[str, MetricSensitivity],
    search: Search | None = None,
) -> Findings:
    """Return what the runs of a request show; a sensitivity study measures its own sensitivity."""
    study, config, ladder = with_actual_ratios(request.study, request.cells), request.baseline, None
    if measures_sensitivity(study):
        ladder = climb(study, evidence, config)
        sensitivity = sensitivity_of(ladder)
    study = study.with_margins(margins(sensitivity))
    configs = {cell.arm: cell.config for cell in request.cells}
    reasons = Reasons(
        study,
        evidence,
        check_controls(study, evidence),
        sensitivity,
        untrained_names(study, configs),
        {arm: str(value_at(cell, "objective.name")) for arm, cell in configs.items() if isinstance(cell, RunConfig)},
        measures_sensitivity=ladder is not None,
    )
    return Findings(
        request=request,
        look=this_look,
        ladder=ladder,
        reasons=reasons,
        comparisons=primary_comparisons(reasons, request.cells, this_look.level),
        verdicts=verdicts(reasons, config, this_look.level),
        search=search,
    )


def measures_sensitivity(study: Study) -> bool:
    """True for a sensitivity study, which needs no earlier one."""
    return study.slug == SLUG and not study.is_search


def climb(study: Study, evidence: Evidence, config: Program) -> Ladder:
    """Measure every rung in every metric that the base, whose run is ``config``, has with two seeds or more."""
    names = [arm for arm in (*study.arms, "positive_control", UNTRAINED) if arm != study.baseline]
    rungs = {name: study.label(name) for name in names}
    reasons = Reasons(study, evidence)
    metrics = {}
    for metric in dict.fromkeys(evidence.metrics["metric"]):
        values = evidence.values(metric)
        if study.baseline not in values or values[study.baseline].count() < 2:
            continue
        noise, effects, items = _paired_sd(study, values), {}, []
        for rung in rungs:
            if not noise or reasons.of_arm(rung):
                continue  # equal values are no certainty
            estimate = reasons.differences.separately(metric, rung, covers_items=True)
            if estimate.covers == "seeds and items":
                items.append(estimate.items_error)
            if estimate.has_interval:
                effects[rung] = _known_effect(estimate)
        metrics[metric] = Seen(
            unit=unit_of(metric),
            seed_sd=float(values[study.baseline].std()),
            paired_sd=noise,
            effects=effects,
            items_error=math.hypot(*items) / math.sqrt(len(items)) if items else None,
            above={
                rung: _known_effect(above)
                for rung in FLOOR
                if rung in effects and (above := reasons.differences.of(UNTRAINED, metric, rung, metric)).has_interval
            },
        )
    return Ladder(base=base_of(config), rungs=rungs, metrics=metrics)


def _paired_sd(study: Study, values: pd.DataFrame) -> float:
    """Return the standard deviation of arm minus baseline over seeds, pooled over the trained arms; 0 if all agree."""
    others = [arm for arm in study.arms if arm != study.baseline and arm in values]
    paired = values[others].sub(values[study.baseline], axis=0)
    counts, variances = paired.count(), paired.var()
    weights = (counts - 1).clip(lower=0)
    spread = math.sqrt(float((variances.fillna(0) * weights).sum() / weights.sum())) if weights.sum() else 0.0
    return 0.0 if is_rounding(spread, size_of(values)) else spread


def _known_effect(estimate: Estimate) -> KnownEffect:
    return KnownEffect(mean=estimate.mean, low=estimate.low, high=estimate.high, num_seeds=estimate.n)


def findings_of(records: Records, reports_dir: Path) -> Findings:
    """Return what records show, with the sensitivity of these reports."""
    request, evidence = records.request, records.evidence
    if measures_sensitivity(request.study):
        return judge(request, evidence, records.look, {}, records.search)
    nearest = nearest_ladder(reports_dir, request.baseline)
    findings = judge(request, evidence, records.look, sensitivity_by(nearest, request.baseline), records.search)
    absent = [metric for metric in request.study.deciding_metrics if not len(evidence.values(metric))]
    return replace(findings, unmeasured=unmeasured(request.study, request.baseline, nearest, absent))


def findings_in(reports_dir: Path, name: str) -> Findings:
    """Return what the records of a report show."""
    return findings_of(read_records(reports_dir / name / FILE, STUDIES), reports_dir)
