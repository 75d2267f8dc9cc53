"""Factorial studies: main effects and interactions."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Picture

from aimv2.base.markdown import escape
from analysis.document.model import Block, Bullets, Cell, Figure, Paragraph, Section, Table
from analysis.document.style import COLOURS, MARKERS, show_on_hover
from analysis.document.template import blocks_of
from analysis.inference.factors import Effect, FactorAnalysis, TermTest, analyse
from analysis.inference.intervals import Estimate, with_interval
from analysis.judgement.compare import reasons_to_withhold
from analysis.judgement.findings import Findings
from analysis.judgement.guards import arm_notes, metric_notes
from analysis.sections.numbers import estimate
from analysis.sections.words import metric_title, runs_of, with_limits

WIDTH = 0.5  # of the room between two levels, over which lines are spread so that their intervals do not overlap
BESIDE = 0.06  # from an interval to the marks of its runs


def section(findings: Findings) -> Section | None:
    """Return the effects on each metric that decides something, the primary one first; None without two factors."""
    if len(levels_of(findings)) < 2:
        return None
    if reasons := _withheld(findings):
        return Section("Factors", [Paragraph(f"No effects are computed: {escape('; '.join(reasons))}.")])
    found = {metric: analysis_of(findings, metric) for metric in findings.study.deciding_metrics}
    parts = {metric: _blocks(findings, metric, one) for metric, one in found.items() if one.tests or one.notes}
    first = parts.pop(findings.metric, [])
    others = [Section(_title(metric), blocks, is_folded=True) for metric, blocks in parts.items()]
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
    found, limits = analyse(_runs(findings, metric), factors), findings.evidence.limits(metric)
    return replace(found, cells={levels: replace(cell, limits=limits) for levels, cell in found.cells.items()})


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
    cells = Section("Means of all combinations", [_cells(findings, metric, one)], is_folded=True)
    return [*_figure(findings, metric, one), _tests(metric, one), _effects(findings, metric, one), *notes, cells]


def _figure(findings: Findings, metric: str, one: FactorAnalysis) -> list[Block]:
    if len(one.factors) != 2 or metric != findings.metric:
        return []
    factors = {
        factor: [level for level in levels if level in one.factors[factor]]
        for factor, levels in levels_of(findings).items()
        if factor in one.factors
    }
    unit = findings.evidence.unit(metric)
    label = f"{metric_title(metric)} [{unit}]" if unit else metric_title(metric)
    caption = (
        "Means of all combinations of levels, with 95 % intervals that leave out what a seed adds to all runs. Small"
        " marks are runs. Parallel lines mean no interaction."
    )
    drawn = interactions(one.cells, factors, _runs(findings, metric), label)
    return [Figure("interactions", f"{_title(metric)} by {' and '.join(factors)}", caption, *drawn)]


def _tests(metric: str, one: FactorAnalysis) -> Table:
    columns = ["effect of", "F", "degrees of freedom", "p", "p, corrected (Holm)", "partial ω² [95 % interval]"]
    rows = [[escape(test.term), *_test(test)] for test in one.tests]
    return Table(columns, rows, name=f"factor_tests_{metric}")


def _test(test: TermTest) -> list[str | Cell]:
    if not test.has_test:
        return ["no test", f"{test.df}, {test.error_df}", "", "", ""]
    share = with_interval(test.omega, test.low, test.high, ".2f")
    return [
        Cell((f"{test.statistic:.2f}",), value=test.statistic),
        f"{test.df}, {test.error_df}",
        Cell((_p(test.p),), value=test.p),
        Cell((_p(test.adjusted_p),), value=test.adjusted_p),
        Cell((share,), value=test.omega),
    ]


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _effects(findings: Findings, metric: str, one: FactorAnalysis) -> Table:
    unit = findings.evidence.unit(metric)
    columns = ["effect of", "difference", f"estimate [95 % interval], {escape(unit)}", "d [95 % interval]"]
    table = Table(columns, name=f"factor_effects_{metric}")
    for effect in one.effects:
        known, sizes = effect.estimate, (effect.size, effect.size_low, effect.size_high)
        difference = Cell((known.text("+.4f"),), _runs_behind(findings, effect), known.basis, known.mean)
        size = "" if math.isnan(effect.size) else with_interval(*sizes, "+.2f")
        table.rows.append([escape(effect.term), escape(effect.name), difference, Cell((size,), value=effect.size)])
    return table


def _runs_behind(findings: Findings, effect: Effect) -> tuple[str, ...]:
    """Return the runs at the levels that an effect compares."""
    arms = [
        arm
        for arm, levels in findings.study.design.levels.items()
        if all(levels[factor] in pair for factor, pair in effect.levels.items())
    ]
    return runs_of(findings.evidence, *arms)


def _cells(findings: Findings, metric: str, one: FactorAnalysis) -> Table:
    """Return the mean of each combination, adjusted for seeds, and what limits it."""
    table, limits = Table(["arm", "mean [95 % interval]", "seeds"], name=f"factor_cells_{metric}"), []
    for arm, levels in findings.study.design.levels.items():
        cell = one.cells.get(tuple(levels[factor] for factor in one.factors))
        if cell is None:
            continue
        mean = Cell((cell.text(".4f"),), runs_of(findings.evidence, arm), cell.basis, cell.mean)
        table.rows.append([findings.study.label(arm), mean, str(cell.n)])
        limits.append(arm_notes(findings, arm, metric))
    return with_limits(table, limits)


def _values(effect: Effect, unit: str) -> dict[str, Any]:
    size = {"mean": effect.size, "low": effect.size_low, "high": effect.size_high}
    found = {"term": effect.term, "levels": {factor: list(pair) for factor, pair in effect.levels.items()}}
    return found | {"estimate": estimate(effect.estimate, unit), "size": size}


def interactions(
    cells: Mapping[tuple[str, ...], Estimate], factors: Mapping[str, Sequence[str]], values: pd.DataFrame, label: str
) -> tuple[Picture, pd.DataFrame]:
    """Draw the mean of each combination of two factors, with its interval, and a dot per run.

    The factor with more levels is on the x axis; each level of the other has a line.

    Args:
        cells: the mean of each combination that ran, by the levels in the order of ``factors``.
        factors: two factors with their levels, in the order in which they are drawn.
        values: a row per run: ``value``, and a column per factor.
        label: the metric and its unit.
    """
    along, across = sorted(factors, key=lambda name: -len(factors[name]))
    figure = Picture(figsize=(6.6, 3.4), layout="constrained")
    axis = figure.subplots()
    axis.grid(visible=False, axis="x")
    rows = []
    looks = zip(factors[across], itertools.cycle(COLOURS), itertools.cycle(MARKERS), strict=False)
    for number, (line, color, marker) in enumerate(looks):
        shift = WIDTH * ((number + 0.5) / len(factors[across]) - 0.5)
        places, means = [], []
        for place, level in enumerate(factors[along]):
            levels = {along: level, across: line}
            estimate = cells.get(tuple(levels[name] for name in factors))
            if estimate is None:
                continue
            own = values.loc[(values[along] == level) & (values[across] == line), "value"]
            axis.plot([place + shift - BESIDE] * len(own), own, ls="", marker=marker, ms=3, color=color, alpha=0.4)
            ends = [estimate.low, estimate.high]
            (bar,) = axis.plot([place + shift] * 2, ends, color=color, lw=2, solid_capstyle="butt")
            show_on_hover(bar, f"{level}, {line}: {estimate.text('.4g')}")
            places.append(place + shift)
            means.append(estimate.mean)
            rows.append(
                {name: levels[name] for name in factors}
                | {"mean": estimate.mean, "low": estimate.low, "high": estimate.high, "n": estimate.n}
            )
        axis.plot(places, means, color=color, marker=marker, ms=7, lw=1.2, label=line)
    axis.set_xticks(np.arange(len(factors[along])), factors[along])
    axis.set_xlim(-0.5, len(factors[along]) - 0.5)
    axis.set_xlabel(along)
    axis.set_ylabel(label)
    figure.legend(title=across, loc="outside right upper", alignment="left", fontsize="small", title_fontsize="small")
    return figure, pd.DataFrame(rows)
