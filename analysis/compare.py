"""python analysis/report.py compare FILE arm=… metric=… baseline=…: the arms of a table of runs of any source."""

from collections.abc import Mapping, Sequence
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
from aimv2.base.errors import UsageError, escape, unknown
from aimv2.config.arguments import HELP, read_options

Values = Mapping[str, "pd.Series[float]"]  # by arm, indexed by seed


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
    show(report(Path(arguments[0]), options), options.out, export=options.export)
    return 0


def report(path: Path, options: CompareOptions) -> Document:
    """Return the report on a file of runs; errors as in ``compare``."""
    runs, left_out = read_runs(path, options)
    values = {arm: runs.loc[runs["arm"] == arm].set_index("seed")["metric"] for arm in dict.fromkeys(runs["arm"])}
    differences = differences_of(values, options)
    with style():
        figure = Figure(
            "differences",
            f"Differences from {options.baseline} in {options.metric}",
            f"Each arm minus {escape(options.baseline)}. Dots are {'pairs of runs' if options.seed else 'runs'}, bars"
            f" are intervals, which hold together with {percent(options.level)} %.",
            *_draw(values, differences, options),
        )
    rows = {
        arm: estimate_row(one) | {"df": one.df, "shows": shows(one, options), "value": arm_mean(values[arm]).mean}
        for arm, one in differences.items()
    }
    return Document(
        title=f"How does {escape(options.metric)} depend on {escape(options.arm)}?",
        subtitle=f"{len(runs)} runs of {escape(path.name)}, {len(values)} arms.",
        answer=_answer(differences, options),
        lead=figure,
        sections=[
            Section("Differences", [_table(values, differences, options)]),
            Section("How it was compared", [Paragraph(text) for text in _methods(options, left_out)]),
        ],
        numbers={"baseline": options.baseline, "metric": options.metric, "level": options.level, "arms": rows},
    )


def read_runs(path: Path, options: CompareOptions) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return a row per run with ``arm``, ``seed`` and ``metric``, and by arm the number of rows without a value."""
    table = read_columns(path, options.columns)
    for name in options.columns.keys() - {"metric"}:
        if (is_empty := table[name] == "").any():
            raise UsageError(f"{place_of(path, int(table.index[is_empty].min()))}: {options.columns[name]} is empty")
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
    elif (is_twice := runs.duplicated(["arm", "seed"])).any():
        twice = runs[is_twice].iloc[0]
        raise UsageError(
            f"{path} has several rows with {options.arm} {twice['arm']!r} and {options.seed} {twice['seed']!r}; keep"
            " one row for each run, such as its last"
        )
    counts = table.loc[~is_there, "arm"].value_counts(sort=False)
    return runs, {str(arm): int(count) for arm, count in counts.items()}


def differences_of(values: Values, options: CompareOptions) -> dict[str, Estimate]:
    """Return each arm minus the baseline; the intervals hold together."""
    others = [arm for arm in values if arm != options.baseline]
    if options.seed:
        return SharedError(pd.DataFrame(values)).contrasts(others, options.baseline, options.level)
    level = bonferroni(len(others), options.level)
    return {arm: unpaired_difference(values[arm], values[options.baseline], level) for arm in others}


def shows(difference: Estimate, options: CompareOptions) -> str:
    """Return what a difference shows; larger values are not known to be better."""
    if not difference.has_interval:
        return "no spread" if difference.n > 1 else f"too few {'shared seeds' if options.seed else 'runs'}"
    text = finding(difference, options.margin, lower_is_better=False).text
    return text.replace("better", "higher").replace("worse", "lower")


def _answer(differences: Mapping[str, Estimate], options: CompareOptions) -> str:
    """Return how many arms differ, and the largest difference."""
    compared = {arm: one for arm, one in differences.items() if one.has_interval}
    differ = {arm: one for arm, one in compared.items() if one.excludes_zero}
    what = f"{escape(options.baseline)} in {escape(options.metric)}"
    if not compared:
        return f"Nothing can be compared with {what}: there are too few runs, or values do not vary."
    if not differ:
        return f"No arm of {len(compared)} differs detectably from {what}."
    most = max(differ, key=lambda arm: abs(differ[arm].mean))
    way = "higher" if differ[most].mean > 0 else "lower"
    verb = "differs" if len(differ) == 1 else "differ"
    text = f"{len(differ)} of {len(compared)} arms {verb} from {what}; most of all, {escape(most)} is"
    return f"{text} {abs(differ[most].mean):.3g} {way}."


def _table(values: Values, differences: Mapping[str, Estimate], options: CompareOptions) -> Table:
    columns = ["arm", "runs", escape(options.metric), "minus baseline", "shows", "detectable"]
    means = {arm: arm_mean(values[arm]) for arm in values}
    cells = {arm: mean.text(".4g") for arm, mean in means.items()}
    base = options.baseline
    rows = [[f"**{escape(base)}**", str(len(values[base])), cells[base], "", "", ""]]
    for arm, one in differences.items():
        smallest = detectable_difference(one)
        detectable = f"{smallest:.2g}" if one.has_interval else ""
        difference = one.text("+.4g") if one.n else ""
        rows.append([escape(arm), str(len(values[arm])), cells[arm], difference, shows(one, options), detectable])
    return Table(columns, rows, "differences", "Intervals of means are those of 95 %.")


def _methods(options: CompareOptions, left_out: Mapping[str, int]) -> list[str]:
    level = f"{percent(options.level)} %"
    how = f"Runs are independent. Differences are Welch's, with Bonferroni's levels: all hold together with {level}."
    if options.seed:
        how = (
            f"Runs with the same {escape(options.seed)} are a block. All arms share an error, except those whose spread"
            f" is larger. The intervals are Dunnett's: all hold together with {level}."
        )
    if options.margin:
        how += f" An arm is *equivalent* if two one-sided tests at {level} rule out differences of {options.margin:g}."
    words = (
        "*Detectable* is the true difference that such an interval would detect in 80 % of cases. The intervals hold"
        " for one look: adding runs until a difference is detected finds differences that do not exist."
    )
    counts = ", ".join(f"{count} of {escape(arm)}" for arm, count in left_out.items())
    return [how, words, *[f"Rows without a value of {escape(options.metric)} were left out: {counts}."] * bool(counts)]


def _draw(values: Values, differences: Mapping[str, Estimate], options: CompareOptions) -> tuple[Picture, pd.DataFrame]:
    """Draw each arm minus the baseline, with its interval and its runs; no name is a formula."""
    figure, axis = plt.subplots(figsize=(5.2, 0.46 * len(differences) + 0.9), layout="constrained")
    base = values[options.baseline]
    for row, (arm, difference) in enumerate(differences.items()):
        look = ArmLook(COLOURS[row % len(COLOURS)], "o", "-")
        single = (values[arm] - (base if options.seed else base.mean())).dropna()
        axis.plot(single, [row + 0.2] * len(single), "o", ms=3.5, alpha=0.5, color=look.color)
        if difference.n:
            draw_estimate(axis, difference, row, look, f"{arm}: {difference.text('+.4g')}")
        label, place = arm.replace("$", r"\$"), axis.get_yaxis_transform()
        axis.text(0.01, row - 0.24, label, transform=place, va="center", bbox=BEHIND, color=INK)
    mark_zero(axis, options.margin)
    axis.set(yticks=[], ylim=(len(differences) - 0.5, -0.6))
    axis.spines["left"].set_visible(False)
    axis.set_xlabel(f"{options.metric} minus {options.baseline}".replace("$", r"\$"))
    return figure, pd.DataFrame([{"arm": arm, **estimate_row(one)} for arm, one in differences.items()])
