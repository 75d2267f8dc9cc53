"""Factorial studies: main effects and interactions."""

import math
from typing import Any

import pandas as pd

from aimv2.analysis.document.model import Block, Bullets, Paragraph, Section, Table
from aimv2.analysis.document.template import blocks_of
from aimv2.analysis.inference.factors import Effect, FactorAnalysis, TermTest, analyse
from aimv2.analysis.inference.intervals import with_interval
from aimv2.analysis.judgement.compare import reasons_to_withhold
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.guards import metric_notes
from aimv2.analysis.sections.numbers import estimate
from aimv2.analysis.sections.words import metric_title
from aimv2.base.markdown import escape


def section(findings: Findings) -> Section | None:
    """Return the effects on each metric that decides something, the primary one first; None without two factors."""
    if len(levels_of(findings)) < 2:
        return None
    if reasons := _withheld(findings):
        return Section("Factors", [Paragraph(f"No effects are computed: {escape('; '.join(reasons))}.")])
    found = {metric: analysis_of(findings, metric) for metric in findings.study.deciding_metrics}
    parts = {metric: _blocks(findings, metric, one) for metric, one in found.items() if one.tests or one.notes}
    first = parts.pop(findings.metric, [])
    others = [Section(_title(metric), blocks) for metric, blocks in parts.items()]
    return Section("Factors", [*blocks_of("factors"), *first, *others])


def numbers(findings: Findings) -> dict[str, Any]:
    """Return tests and effects as JSON values, by metric; empty without two factors, or if they are withheld."""
    if len(levels_of(findings)) < 2 or _withheld(findings):
        return {}
    found = {}
    for metric in findings.study.deciding_metrics:
        one, unit = analysis_of(findings, metric), findings.evidence.unit(metric)
        found[metric] = {
            "tests": [vars(test) for test in one.tests],
            "effects": [_values(effect, unit) for effect in one.effects],
            "error_sd": one.sd,
            "notes": list(one.notes),
        }
    return found


def levels_of(findings: Findings) -> dict[str, list[str]]:
    """Return the levels of each factor in the order of the design; empty if it combines none."""
    found: dict[str, dict[str, None]] = {}
    for levels in findings.study.design.levels.values():
        for factor, level in levels.items():
            found.setdefault(factor, {})[level] = None
    return {factor: list(levels) for factor, levels in found.items()}


def analysis_of(findings: Findings, metric: str) -> FactorAnalysis:
    """Return the effects of a study's factors on a metric, compared with the levels of the baseline."""
    own = findings.study.design.levels[findings.study.baseline]
    factors = {
        factor: [own[factor], *(level for level in levels if level != own[factor])]
        for factor, levels in levels_of(findings).items()
    }
    return analyse(_runs(findings, metric), factors)


def _runs(findings: Findings, metric: str) -> pd.DataFrame:
    """Return a row per run of an arm: seed, value, and the level of each factor."""
    values = findings.evidence.values(metric)
    rows = [
        {"seed": seed, "value": value, **levels}
        for arm, levels in findings.study.design.levels.items()
        for seed, value in findings.evidence.value(metric, arm).items()
        if arm in values
    ]
    return pd.DataFrame(rows, columns=["seed", "value", *levels_of(findings)])


def _withheld(findings: Findings) -> list[str]:
    return reasons_to_withhold(findings.study, findings.evidence, findings.study.arms)


def _title(metric: str) -> str:
    title = metric_title(metric)
    return title[0].upper() + title[1:]


def _blocks(findings: Findings, metric: str, one: FactorAnalysis) -> list[Block]:
    limits = [f"{_title(metric)}: {note}." for note in metric_notes(findings, metric)]
    notes: list[Block] = [Bullets([escape(note) for note in [*limits, *one.notes]])] if limits or one.notes else []
    if not one.tests:
        return notes
    return [_tests(metric, one), _effects(findings, metric, one), *notes]


def _tests(metric: str, one: FactorAnalysis) -> Table:
    columns = ["effect of", "F", "degrees of freedom", "p", "p, corrected (Holm)"]
    rows = [[escape(test.term), *_test(test)] for test in one.tests]
    return Table(columns, rows, name=f"factor_tests_{metric}")


def _test(test: TermTest) -> list[str]:
    if not test.has_test:
        return ["no test", f"{test.df}, {test.error_df}", "", ""]
    return [
        f"{test.statistic:.2f}",
        f"{test.df}, {test.error_df}",
        _p(test.p),
        _p(test.adjusted_p),
    ]


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _effects(findings: Findings, metric: str, one: FactorAnalysis) -> Table:
    unit = findings.evidence.unit(metric)
    columns = ["effect of", "difference", f"estimate [95 % interval], {escape(unit)}", "d [95 % interval]"]
    table = Table(columns, name=f"factor_effects_{metric}")
    for effect in one.effects:
        known, sizes = effect.estimate, (effect.size, effect.size_low, effect.size_high)
        difference = known.text("+.4f")
        size = "" if math.isnan(effect.size) else with_interval(*sizes, "+.2f")
        table.rows.append([escape(effect.term), escape(effect.name), difference, size])
    return table


def _values(effect: Effect, unit: str) -> dict[str, Any]:
    size = {"mean": effect.size, "low": effect.size_low, "high": effect.size_high}
    found = {"term": effect.term, "levels": {factor: list(pair) for factor, pair in effect.levels.items()}}
    return found | {"estimate": estimate(effect.estimate, unit), "size": size}
