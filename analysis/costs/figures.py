"""Time of encoders relative to AIMv2, beside FLOPs relative to AIMv2."""

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from aimv2.analysis.costs.measurements import ARCHITECTURES, OURS, EncoderSetting
from aimv2.analysis.costs.ratios import relative
from aimv2.analysis.document.style import COLOURS, INK, SOFT, show_on_hover

NUM_COLUMNS = 3
SPREAD = 0.36  # of the batch sizes within a row


def draw_encoders(settings: Sequence[EncoderSetting]) -> tuple[Figure, pd.DataFrame]:
    """Draw a panel per resolution and precision, a row per encoder but ours, and a marker per batch size.

    Called in the context ``style``. Also returns the data.
    """
    names = list(dict.fromkeys(_panel(setting) for setting in settings))
    rows = list(dict.fromkeys(one.encoder for setting in settings for one in setting.encoders if one.encoder != OURS))
    sizes = list(dict.fromkeys(setting.batch_size for setting in settings))
    num_columns, num_rows = min(len(names), NUM_COLUMNS), -(-len(names) // NUM_COLUMNS)
    size = (1.9 * num_columns + 1.1, num_rows * (0.36 * len(rows) + 0.8) + 0.5)
    figure, axes = plt.subplots(num_rows, num_columns, figsize=size, layout="constrained", squeeze=False, sharey=True)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for name, axis in zip(names, axes.flat, strict=False):
        axis.set(title=name, xlabel="times AIMv2")
        axis.axvline(1, color=INK, lw=0.8)
        axis.grid(visible=False, axis="y")
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axes[0, 0].set_yticks(range(len(rows)), [ARCHITECTURES[encoder].title for encoder in rows])
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    found, legend = [], dict[str, Artist]()
    for setting in settings:
        axis, number = axes.flat[names.index(_panel(setting))], sizes.index(setting.batch_size)
        ours = next(one for one in setting.encoders if one.encoder == OURS)
        for one in (one for one in setting.encoders if one is not ours):
            time, flops, row = relative(one.seconds, ours.seconds), one.flops / ours.flops, rows.index(one.encoder)
            (stroke,) = axis.plot([flops], [row], color=SOFT, marker="|", ms=18, mew=2, ls="", zorder=1)
            (line,) = axis.plot(
                [time.low, time.median, time.high],
                [row + SPREAD * (number - (len(sizes) - 1) / 2)] * 3,
                color=COLOURS[number % len(COLOURS)],
                lw=1.8,
                marker="o",
                ms=5,
                markevery=[1],
                solid_capstyle="butt",
            )
            legend |= {"FLOPs": stroke, f"batch {setting.batch_size}": line}
            place = {"panel": _panel(setting), "row": ARCHITECTURES[one.encoder].title}
            place["series"] = f"batch {setting.batch_size}"
            show_on_hover(line, f"{place['row']}, {place['panel']}, {place['series']}: {time.text} times AIMv2")
            found.append(place | asdict(time) | {"flops_ratio": flops})
    figure.legend(legend.values(), legend, loc="outside lower center", ncols=len(legend))
    return figure, pd.DataFrame(found).rename(columns={"median": "time_ratio", "n": "rounds"})


def _panel(setting: EncoderSetting) -> str:
    return f"{setting.patches} patches, {setting.precision}"
