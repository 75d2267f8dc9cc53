"""python analysis/report.py compare FILE arm=… metric=… baseline=…: the arms of a table of runs of any source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure as Picture

from aimv2.analysis.document.model import Document, Figure, Paragraph, Section, Table
from aimv2.analysis.document.style import BEHIND, COLOURS, INK, ArmLook, style
from aimv2.analysis.document.write import check_replaceable, show
from aimv2.analysis.figures.arms import draw_estimate, estimate_row, mark_zero
from aimv2.analysis.inference.contrasts import SharedError
from aimv2.analysis.inference.intervals import (
    LEVEL,
    Estimate,
    arm_mean,
    bonferroni,
    detectable_difference,
    percent,
    unpaired_difference,
)
from aimv2.analysis.inference.relations import finding
from aimv2.analysis.tables import numbers, place_of, read_columns
from aimv2.analysis.usage import CompareOptions, compare_command, compare_usage
from aimv2.base.errors import UsageError, unknown
from aimv2.base.markdown import escape
from aimv2.config.arguments import HELP
from aimv2.config.options import read_options

DIRECTIONS = {"better": "higher", "worse": "lower"}  # what a finding says, where larger values are not known to be good


@dataclass(frozen=True)
class Compared:
    """An arm beside the baseline.

    Attributes:
        difference: arm minus baseline; the intervals of all arms hold together.
    """

    arm: str
    mean: Estimate
    difference: Estimate
    shows: str


def compare(arguments: Sequence[str]) -> int:
    """Print the comparison of a table's arms, and write it if ``out=`` is typed; return the exit status.

    Raises:
        UsageError: the file, a column, an arm or a value cannot be used.
    """
    if not arguments or HELP & set(arguments):
        print(compare_usage(), end="")
        return 0 if arguments else 2
    if "=" in arguments[0]:
        raise UsageError(f"which file? Type {compare_command()}")
    options = read_options(CompareOptions, arguments[1:])
    if options.out:
        check_replaceable(Path(options.out))
    document = report(Path(arguments[0]), options)
    show(document, options.out, export=options.export)
    return 0


def report(path: Path, options: CompareOptions) -> Document:
    """Return the report on a file of runs; errors as in ``compare``."""
    runs, num_empty = read_runs(path, options)
    values = {arm: runs.loc[runs["arm"] == arm].set_index("seed")["metric"] for arm in dict.fromkeys(runs["arm"])}
    compared = differences_of(values, options)
    with style():
        figure = Figure(
            "differences",
            f"Differences from {options.baseline} in {options.metric}",
            f"Each arm minus {escape(options.baseline)}. Dots are {'pairs of runs' if options.seed else 'runs'}, bars"
            f" are intervals, which hold together with {percent(options.level)} %.",
            *_draw(values, compared, options),
        )
    return Document(
        title=f"How does {escape(options.metric)} depend on {escape(options.arm)}?",
        subtitle=f"{len(runs)} runs of {escape(path.name)}, {len(values)} arms.",
        answer=_answer(compared, options),
        lead=figure,
        sections=[
            Section("Differences", [_table(values, compared, options)]),
            Section("How it was compared", [Paragraph(text) for text in _methods(options, num_empty)]),
        ],
        numbers={
            "baseline": options.baseline,
            "metric": options.metric,
            "level": options.level,
            "margin": options.margin,
            "arms": {
                one.arm: estimate_row(one.difference)
                | {"df": one.difference.df, "shows": one.shows, "runs": len(values[one.arm]), "value": one.mean.mean}
                for one in compared
            },
            "baseline_value": arm_mean(values[options.baseline]).mean,
        },
    )


def read_runs(path: Path, options: CompareOptions) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return a row per run with ``arm``, ``seed`` and ``metric``, and by arm the number of rows without a value.

    Raises:
        UsageError: as in ``compare``.
    """
    table = read_columns(path, options.columns)
    for name in ("arm", "seed"):
        if name in table and (is_empty := table[name] == "").any():
            row = int(table.index[is_empty].min())
            raise UsageError(f"{place_of(path, row)}: {options.columns[name]} is empty")
    is_there = ~table["metric"].str.lower().isin(["", "nan"])
    runs = table[is_there].copy()
    runs["metric"] = numbers(path, runs["metric"], options.metric)
    if runs.empty:
        raise UsageError(f"{path} has no value of {options.metric}")
    if options.baseline not in set(runs["arm"]):
        raise unknown("baseline", options.baseline, sorted(set(runs["arm"])))
    if runs["arm"].nunique() < 2:
        raise UsageError(f"{path}: all runs have {options.arm} {options.baseline!r}, so there is nothing to compare")
    if options.seed is None:
        runs["seed"] = runs.groupby("arm").cumcount().astype(str)
    elif (twice := runs[runs.duplicated(["arm", "seed"])]).size:
        one = twice.iloc[0]
        raise UsageError(
            f"{path} has several rows with {options.arm} {one['arm']!r} and {options.seed} {one['seed']!r}; keep one"
            " row for each run, such as its last"
        )
    left_out = table.loc[~is_there, "arm"].value_counts(sort=False)
    return runs, {str(arm): int(count) for arm, count in left_out.items()}


def differences_of(values: Mapping[str, "pd.Series[float]"], options: CompareOptions) -> list[Compared]:
    """Return each arm beside the baseline.

    Args:
        values: by arm, indexed by seed.
    """
    others = [arm for arm in values if arm != options.baseline]
    if options.seed:
        differences = SharedError(pd.DataFrame(values)).contrasts(others, options.baseline, options.level)
    else:
        level = bonferroni(len(others), options.level)
        differences = {arm: unpaired_difference(values[arm], values[options.baseline], level) for arm in others}
    return [Compared(arm, arm_mean(values[arm]), one, _shows(one, options)) for arm, one in differences.items()]


def _shows(difference: Estimate, options: CompareOptions) -> str:
    if not difference.has_interval:
        pairs = "shared seeds" if options.seed else "runs"
        return f"too few {pairs}" if difference.n < 2 else "no spread"
    text = finding(difference, options.margin, lower_is_better=False).text
    for ours, word in DIRECTIONS.items():
        text = text.replace(ours, word)
    return text


def _answer(compared: Sequence[Compared], options: CompareOptions) -> str:
    """Return how many arms differ, and the largest difference, in at most 25 words besides names."""
    told = [one for one in compared if one.difference.has_interval]
    differ = [one for one in told if one.difference.excludes_zero]
    what = f"{escape(options.baseline)} in {escape(options.metric)}"
    if not told:
        return f"Nothing can be compared with {what}: there are too few runs, or values do not vary."
    if not differ:
        return f"No arm of {len(told)} differs detectably from {what}."
    largest = max(differ, key=lambda one: abs(one.difference.mean))
    way = "higher" if largest.difference.mean > 0 else "lower"
    size = f"{escape(largest.arm)} is {abs(largest.difference.mean):.3g} {way}"
    if len(told) == 1:
        return f"{size} than {what}."
    verb = "differs" if len(differ) == 1 else "differ"
    return f"{len(differ)} of {len(told)} arms {verb} from {what}; most of all, {size}."


def _table(values: Mapping[str, "pd.Series[float]"], compared: Sequence[Compared], options: CompareOptions) -> Table:
    columns = ["arm", "runs", escape(options.metric), "minus baseline", "shows", "detectable"]
    caption = f"Intervals of means are those of {percent(LEVEL)} %." if options.level != LEVEL else ""
    table = Table(columns, name="differences", caption=caption)
    base = arm_mean(values[options.baseline])
    table.rows.append([f"**{escape(options.baseline)}**", str(len(values[options.baseline])), _cell(base), "", "", ""])
    for one in compared:
        smallest = detectable_difference(one.difference)
        table.rows.append(
            [
                escape(one.arm),
                str(len(values[one.arm])),
                _cell(one.mean),
                _cell(one.difference, "+.4g"),
                one.shows,
                f"{smallest:.2g}" if one.difference.has_interval else "",
            ]
        )
    return table


def _cell(estimate: Estimate, form: str = ".4g") -> str:
    if not estimate.n:
        return ""
    return estimate.text(form)


def _methods(options: CompareOptions, num_empty: Mapping[str, int]) -> list[str]:
    level = f"{percent(options.level)} %"
    how = (
        f"Runs with the same {escape(options.seed)} are a block. All arms share an error, except those whose spread is"
        f" larger. The intervals are Dunnett's: all hold together with {level}."
        if options.seed
        else f"Runs are independent. Differences are Welch's, with Bonferroni's levels: all hold together with {level}."
    )
    words = (
        "*Detectable* is the true difference that such an interval would detect in 80 % of cases. The intervals hold"
        " for one look: adding runs until a difference is detected finds differences that do not exist."
    )
    margin = (
        f" An arm is *equivalent* if two one-sided tests at {level} rule out differences of {options.margin:g}; their"
        " intervals are narrower than those shown."
        if options.margin
        else ""
    )
    left_out = ", ".join(f"{count} of {escape(arm)}" for arm, count in num_empty.items())
    empty = [f"Rows without a value of {escape(options.metric)} were left out: {left_out}."] if num_empty else []
    return [how + margin, words, *empty]


def _draw(
    values: Mapping[str, "pd.Series[float]"], compared: Sequence[Compared], options: CompareOptions
) -> tuple[Picture, pd.DataFrame]:
    """Draw each arm minus the baseline, with its interval and its runs."""
    figure, axis = plt.subplots(figsize=(5.2, 0.46 * len(compared) + 0.9), layout="constrained")
    base = values[options.baseline]
    for row, one in enumerate(compared):
        look = ArmLook(COLOURS[row % len(COLOURS)], "o", "-")
        single = (values[one.arm] - (base if options.seed else base.mean())).dropna()
        axis.plot(single, [row + 0.2] * len(single), "o", ms=3.5, alpha=0.5, color=look.color)
        if one.difference.n:
            draw_estimate(axis, one.difference, row, look, f"{one.arm}: {one.difference.text('+.4g')}")
        place = axis.get_yaxis_transform()
        axis.text(0.01, row - 0.24, _plain(one.arm), transform=place, va="center", bbox=BEHIND, color=INK)
    mark_zero(axis, options.margin)
    axis.set_yticks([])
    axis.set_ylim(len(compared) - 0.5, -0.6)
    axis.spines["left"].set_visible(False)
    axis.set_xlabel(_plain(f"{options.metric} minus {options.baseline}"))
    return figure, pd.DataFrame([{"arm": one.arm, **estimate_row(one.difference)} for one in compared])


def _plain(text: str) -> str:
    """Return a text in which nothing is a formula."""
    return text.replace("$", r"\$")
