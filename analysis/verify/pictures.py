"""The report's pictures: charts as SVG, images as PNG."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from PIL import Image

from analysis.verify.balance import COSINE, PAPER_ALPHAS, PIXEL, TEXT, Balance
from analysis.verify.pixels import FRACTIONS, Painting
from analysis.verify.prefix import PrefixLengths

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "aimv2",
    "font.family": "sans-serif",
    "axes.titlelocation": "left",
}
CELL_INCHES = 1.05
DPI = 160
THUMBNAIL_PX = 96


@contextmanager
def _style() -> Iterator[None]:
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=0.9), plt.rc_context(STYLE):
        yield


def draw_prefix_lengths(found: PrefixLengths, unit: str, path: Path) -> None:
    """How often each prefix length was drawn, and the law."""
    with _style():
        figure, axis = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
        length_I = np.arange(1, len(found.pmf_I) + 1)
        drawn_colour, law_colour = sns.color_palette("colorblind", 2)
        total = found.count_I.sum()
        share_I = found.count_I / total
        is_fine = len(length_I) <= 64
        axis.bar(length_I, share_I, width=0.8 if is_fine else 1, color=drawn_colour, label="drawn", linewidth=0)
        law_I = np.where(found.pmf_I > 0, found.pmf_I, np.nan)
        axis.plot(length_I, law_I, "o" if is_fine else "-", ms=5, lw=2, color=law_colour, label="law")
        axis.set(xlabel=f"prefix length [patches of {len(length_I)}]", ylabel=f"share of {total:,} {unit}")
        axis.set_ylim(0, 1.25 * max(found.pmf_I.max(), share_I.max()))
        if is_fine:
            axis.set_xticks(length_I if len(length_I) <= 20 else length_I[:: len(length_I) // 12])
        axis.grid(False, axis="x")
        axis.legend(loc="upper right", ncols=2)
        _save(figure, path)


def draw_balance(found: Balance, alpha: float, path: Path) -> None:
    """Norms and cosine over training; the ratio of the weighted norms at the trained weights against alpha."""
    with _style():
        figure = plt.figure(figsize=(10.5, 4.4), layout="constrained")
        grid = figure.add_gridspec(2, 2, height_ratios=(2, 1.2))
        norms, cosine = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0])
        ratio = figure.add_subplot(grid[:, 1])
        pixel_colour, text_colour, own_colour = sns.color_palette("colorblind", 3)

        table = found.recorded
        for name, label, colour in ((PIXEL, "pixel loss", pixel_colour), (TEXT, "text loss", text_colour)):
            norms.plot(table["samples"], table[name], "o-", ms=4, color=colour, label=label)
        norms.set(yscale="log", ylabel="gradient norm", title="during training")
        norms.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        norms.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        norms.yaxis.set_minor_formatter(NullFormatter())
        norms.tick_params(labelbottom=False)
        if table.empty:
            norms.text(0.5, 0.5, "not recorded", transform=norms.transAxes, ha="center")
            norms.set(xticks=[], yticks=[])
        else:
            norms.legend()
        cosine.plot(table["samples"], table[COSINE], "o-", ms=4, color="0.3")
        cosine.axhline(0, color="0.6", lw=1)
        limit = max(0.2, 1.15 * float(table[COSINE].abs().max())) if len(table) else 1.0
        cosine.set(xlabel="samples seen", ylabel="cosine", ylim=(-limit, limit))
        cosine.sharex(norms)

        per_batch_R = (found.at_end[PIXEL] / found.at_end[TEXT]).to_numpy(dtype=float)
        alpha_A = np.geomspace(0.05, 2, 50)
        if len(per_batch_R):
            ratio.fill_between(
                alpha_A, alpha_A * per_batch_R.min(), alpha_A * per_batch_R.max(), color="0.5", alpha=0.2, lw=0
            )
            ratio.plot(alpha_A, alpha_A * found.end_ratio, color="0.2", lw=1.8)
            for value in PAPER_ALPHAS:
                ratio.plot(value, value * found.end_ratio, "o", ms=7, color=pixel_colour)
                ratio.annotate(
                    f"{value:g}",
                    (value, value * found.end_ratio),
                    xytext=(0, 9),
                    textcoords="offset points",
                    ha="right",
                    color=pixel_colour,
                )
            ratio.plot([], [], "o", ms=7, color=pixel_colour, label="alphas of the paper's Table 9c")
            own: dict[str, Any] = {"ms": 11, "mfc": "none", "mec": own_colour, "mew": 2}
            ratio.plot(alpha, alpha * found.end_ratio, "D", label=f"this run's {alpha:g}", **own)
        ratio.axhline(1, color="0.3", ls="--", lw=1.2, label="both pull equally")
        ratio.set(xscale="log", yscale="log", xlabel="alpha", ylabel="alpha × pixel gradient / text gradient")
        ratio.set_title("at the trained weights")
        ticks = [0.05, 0.1, 0.2, 0.4, 1, 2]
        ratio.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ratio.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ratio.minorticks_off()
        ratio.legend(loc="lower right")
        _save(figure, path)


def draw_paintings(paintings: list[Painting], path: Path) -> None:
    """A row per image: the image, by prefix what was seen and what is predicted, and the patch means alone."""
    columns = [("image", [picture.truth for picture in paintings])]
    for fraction in FRACTIONS:
        columns.append((f"prefix\n{fraction:g}", [picture.seen[fraction] for picture in paintings]))
        columns.append(("predicted\nafter it", [picture.painted[fraction] for picture in paintings]))
    if paintings[0].means:
        columns.append((f"means alone\nafter {FRACTIONS[0]:g}", [picture.means[FRACTIONS[0]] for picture in paintings]))
    with plt.rc_context(STYLE):
        size = (CELL_INCHES * len(columns), CELL_INCHES * len(paintings) + 0.45)
        figure, axes = plt.subplots(len(paintings), len(columns), figsize=size, layout="constrained", squeeze=False)
        for (title, pictures), column in zip(columns, axes.T, strict=True):
            column[0].set_title(title, fontsize="small", loc="center")
            for picture, axis in zip(pictures, column, strict=True):
                axis.imshow(picture, interpolation="nearest")
                axis.set(xticks=[], yticks=[])
                for spine in axis.spines.values():
                    spine.set(color="0.8", linewidth=0.5)
        figure.savefig(path, dpi=DPI, metadata={"Software": None})
        plt.close(figure)


def save_thumbnail(image: np.ndarray, path: Path) -> None:
    """A uint8 image [S, S, 3], enlarged by whole pixels."""
    factor = max(1, THUMBNAIL_PX // len(image))
    Image.fromarray(np.kron(image, np.ones((factor, factor, 1), dtype=np.uint8))).save(path)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
