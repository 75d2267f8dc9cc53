"""Factorial studies: main effects and interactions."""

import math
from typing import Any

import pandas as pd

from aimv2.analysis.document.model import Block, Bullets, Paragraph, Section, Table
from aimv2.analysis.document.template import blocks_of
from aimv2.analysis.inference.factors import Effect, FactorAnalysis, analyse
from aimv2.analysis.inference.intervals import with_interval
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.sections.tables import as_heading, estimate, metric_title
from aimv2.base.errors import escape


def section(findings: Findings) -> Section | None:
    """Return the effects on each metric that decides something, the primary one first; None without two factors."""
    if len(levels_of(findings)) < 2:
        return None
    if reasons := findings.reasons.of_runs(findings.study.arms):
        return Section("Factors", [Paragraph(f"No effects are computed: {escape('; '.join(reasons))}.")])
    blocks = {metric: _blocks(findings, metric) for metric in findings.study.deciding_metrics}
    first = blocks.pop(findings.metric, [])
    others = [Section(_title(metric), of_metric) for metric, of_metric in blocks.items() if of_metric]
    return Section("Factors", [*blocks_of("factors"), *first, *others])


def numbers(findings: Findings) -> dict[str, Any]:
    """Return tests and effects as JSON values, by metric; empty without two factors, or if they are withheld."""
    if len(levels_of(findings)) < 2 or findings.reasons.of_runs(findings.study.arms):
        return {}
    values = {}
    for metric in findings.study.deciding_metrics:
        analysis, unit = analysis_of(findings, metric), findings.evidence.unit(metric)
        values[metric] = {
            "tests": [vars(test) for test in analysis.tests],
            "effects": [_values(effect, unit) for effect in analysis.effects],
            "error_sd": analysis.sd,
            "notes": list(analysis.notes),
        }
    return values


def levels_of(findings: Findings) -> dict[str, list[str]]:
    """Return the levels of each factor in the order of the design; empty if it combines none."""
    by_factor: dict[str, dict[str, None]] = {}
    for levels in findings.study.design.levels.values():
        for factor, level in levels.items():
            by_factor.setdefault(factor, {})[level] = None
    return {factor: list(levels) for factor, levels in by_factor.items()}


def analysis_of(findings: Findings, metric: str) -> FactorAnalysis:
    """Return the effects of a study's factors on a metric, compared with the levels of the baseline."""
    of_arms = findings.study.design.levels
    baseline, factors = of_arms[findings.study.baseline], levels_of(findings)
    values = findings.evidence.values(metric)
    rows = [
        {"seed": seed, "value": value, **levels}
        for arm, levels in of_arms.items()
        if arm in values
        for seed, value in values[arm].items()
    ]
    from_baseline = {
        factor: [baseline[factor], *(level for level in levels if level != baseline[factor])]
        for factor, levels in factors.items()
    }
    return analyse(pd.DataFrame(rows, columns=["seed", "value", *factors]), from_baseline)


def _title(metric: str) -> str:
    return as_heading(metric_title(metric))


def _blocks(findings: Findings, metric: str) -> list[Block]:
    """Return tests and effects of a metric, and what limits them; nothing if there is neither."""
    analysis = analysis_of(findings, metric)
    if not analysis.tests and not analysis.notes:
        return []
    limits = [f"{_title(metric)}: {note}." for note in findings.reasons.limits_of_metric(metric)]
    notes = [escape(note) for note in [*limits, *analysis.notes]]
    blocks: list[Block] = [Bullets(notes)] if notes else []
    return [_tests(metric, analysis), _effects(findings, metric, analysis), *blocks] if analysis.tests else blocks


def _tests(metric: str, analysis: FactorAnalysis) -> Table:
    table = Table(["effect of", "F", "degrees of freedom", "p", "p, corrected (Holm)"], name=f"factor_tests_{metric}")
    for test in analysis.tests:
        df, shown = f"{test.df}, {test.error_df}", (f"{test.statistic:.2f}", _p(test.p), _p(test.adjusted_p))
        statistic, *p = shown if test.has_test else ("no test", "", "")
        table.rows.append([escape(test.term), statistic, df, *p])
    return table


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _effects(findings: Findings, metric: str, analysis: FactorAnalysis) -> Table:
    unit = escape(findings.evidence.unit(metric))
    columns = ["effect of", "difference", f"estimate [95 % interval], {unit}", "d [95 % interval]"]
    table = Table(columns, name=f"factor_effects_{metric}")
    for effect in analysis.effects:
        sizes = effect.size, effect.size_low, effect.size_high
        size = "" if math.isnan(effect.size) else with_interval(*sizes, "+.2f")
        table.rows.append([escape(effect.term), escape(effect.name), effect.estimate.text("+.4f"), size])
    return table


def _values(effect: Effect, unit: str) -> dict[str, Any]:
    return {
        "term": effect.term,
        "levels": {factor: list(pair) for factor, pair in effect.levels.items()},
        "estimate": estimate(effect.estimate, unit),
        "size": {"mean": effect.size, "low": effect.size_low, "high": effect.size_high},
    }
