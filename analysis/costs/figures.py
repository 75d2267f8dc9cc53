"""Time relative to AIMv2, of encoders and of objectives, beside FLOPs relative to AIMv2."""

from collections.abc import Sequence
from dataclasses import astuple
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.costs.measurements import ARCHITECTURES, OURS, EncoderSetting, TrainingSetting
from analysis.costs.ratios import Median, relative
from analysis.document.style import COLOURS, INK, SOFT, show_on_hover
from analysis.figures.arms import NUM_COLUMNS, panels

COLUMNS = ["panel", "row", "series", "time_ratio", "low", "high", "rounds", "flops_ratio"]
SPREAD = 0.36  # of the batch sizes within a row


class Point(NamedTuple):
    """A ratio of times and of FLOPs to AIMv2's."""

    panel: str
    row: str
    series: str
    time: Median
    flops: float


def encoder_points(settings: Sequence[EncoderSetting]) -> list[Point]:
    """Return a point for each encoder but ours, and setting."""
    found = []
    for setting in settings:
        ours = next(one for one in setting.encoders if one.encoder == OURS)
        found += [
            Point(
                f"{setting.patches} patches, {setting.precision}",
                ARCHITECTURES[one.encoder].title,
                f"batch {setting.batch_size}",
                relative(one.seconds, ours.seconds),
                one.flops / ours.flops,
            )
            for one in setting.encoders
            if one is not ours
        ]
    return found


def objective_points(settings: Sequence[TrainingSetting]) -> list[Point]:
    """Return a point for each objective but ours, and timed scale."""
    found = []
    for setting in settings:
        ours = next(one for one in setting.objectives if one.objective == OURS)
        found += [
            Point(setting.scale, one.objective, "time", relative(one.seconds, ours.seconds), one.flops / ours.flops)
            for one in setting.objectives
            if one is not ours and one.seconds
        ]
    return found


def draw_ratios(points: Sequence[Point]) -> tuple[Figure, pd.DataFrame]:
    """Draw a panel per setting, a row per encoder or objective, and a marker per batch size."""
    names, rows, series = (list(dict.fromkeys(values)) for values in list(zip(*points, strict=True))[:3])
    figure, axes = panels(len(names), rows)
    figure.set_figheight(-(-len(names) // NUM_COLUMNS[0]) * (0.36 * len(rows) + 0.8) + 0.5)
    for name, axis in zip(names, axes, strict=True):
        axis.set_title(name)
        axis.set_xlabel("times AIMv2")
        axis.axvline(1, color=INK, lw=0.8)
        for point in (point for point in points if point.panel == name):
            number = series.index(point.series)
            offset = SPREAD * (number - (len(series) - 1) / 2)
            _mark(axis, point, rows.index(point.row), offset, COLOURS[number % len(COLOURS)])
    handles, labels = axes[0].get_legend_handles_labels()
    found = dict(zip(labels, handles, strict=True))
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=len(found))
    data = [(*point[:3], *astuple(point.time), point.flops) for point in points]
    return figure, pd.DataFrame(data, columns=COLUMNS)


def _mark(axis: Axes, point: Point, row: int, offset: float, color: str) -> None:
    """Draw a ratio of times with its interval, and the ratio of FLOPs behind it."""
    axis.plot([point.flops], [row], color=SOFT, marker="|", ms=18, mew=2, ls="", label="FLOPs", zorder=1)
    (line,) = axis.plot(
        [point.time.low, point.time.median, point.time.high],
        [row + offset] * 3,
        color=color,
        lw=1.8,
        marker="o",
        ms=5,
        markevery=[1],
        solid_capstyle="butt",
        label=point.series,
    )
    show_on_hover(line, f"{point.row}, {point.panel}, {point.series}: {point.time.text} times AIMv2")
