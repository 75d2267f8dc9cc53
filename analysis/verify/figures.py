"""The figures of the verification report: charts with their data, in the context ``style``, and pictures as PNG."""

from io import BytesIO
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from PIL import Image

from analysis.document.style import COLOURS, style
from analysis.verify.balance import ALPHAS, COSINE, PAPER_ALPHAS, PIXEL, TEXT, Balance
from analysis.verify.prefix import PrefixLengths

CELL_INCHES = 1.05
DPI = 160
THUMBNAIL_PX = 96
MAX_BARS = 64  # prefix lengths that get a bar and a mark each


def draw_prefix_lengths(found: PrefixLengths, unit: str) -> tuple[Figure, pd.DataFrame]:
    """Draw how often each prefix length occurred, and the configured distribution."""
    num_patches, total = len(found.pmf_I), found.count_I.sum()
    length_I, share_I = np.arange(1, num_patches + 1), found.count_I / total
    is_fine = num_patches <= MAX_BARS
    figure, axis = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
    drawn, configured = COLOURS[:2]
    axis.bar(length_I, share_I, width=0.8 if is_fine else 1, color=drawn, label="drawn", linewidth=0)
    pmf_I = np.where(found.pmf_I > 0, found.pmf_I, np.nan)
    axis.plot(length_I, pmf_I, "o" if is_fine else "-", ms=5, lw=2, color=configured, label="configured")
    axis.set(xlabel=f"prefix length [patches of {num_patches}]", ylabel=f"share of {total:,} {unit}")
    axis.set_ylim(0, 1.25 * max(found.pmf_I.max(), share_I.max()))
    if is_fine:
        axis.set_xticks(length_I if num_patches <= 20 else length_I[:: num_patches // 12])
    axis.grid(False, axis="x")
    axis.legend(loc="upper right", ncols=2)
    return figure, pd.DataFrame({"prefix_length": length_I, "drawn": found.count_I, "configured": found.pmf_I})


def draw_balance(found: Balance, alpha: float) -> tuple[Figure, pd.DataFrame]:
    """Draw norms and cosine over training, and the ratio of the weighted norms at the trained weights by alpha."""
    figure = plt.figure(figsize=(10.5, 4.4), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(2, 1.2))
    norms = figure.add_subplot(grid[0, 0])
    _draw_training(norms, figure.add_subplot(grid[1, 0], sharex=norms), found)
    _draw_ratio(figure.add_subplot(grid[:, 1]), found, alpha)
    figure.align_ylabels()
    parts = {"during training": found.recorded, "at the trained weights": found.at_end}
    return figure, pd.concat([part.assign(when=when) for when, part in parts.items() if len(part)])


def _draw_training(norms: Axes, cosine: Axes, found: Balance) -> None:
    table, colours = found.recorded, COLOURS[:2]
    for name, label, colour in zip((PIXEL, TEXT), ("pixel loss", "text loss"), colours, strict=True):
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
    cosine.xaxis.set_major_locator(MaxNLocator(6))
    cosine.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _draw_ratio(axis: Axes, found: Balance, alpha: float) -> None:
    paper, _, own = COLOURS[:3]
    ratio_R, alpha_A, paper_A = found.end_ratio_R, np.geomspace(0.05, 2, 50), np.array(PAPER_ALPHAS)
    if len(ratio_R):
        mean = ratio_R.mean()
        axis.fill_between(alpha_A, alpha_A * ratio_R.min(), alpha_A * ratio_R.max(), color="0.5", alpha=0.2, lw=0)
        axis.plot(alpha_A, alpha_A * mean, color="0.2", lw=1.8)
        axis.plot(paper_A, paper_A * mean, "o", ms=7, color=paper, label="alphas of the paper's Table 9c")
        marker: dict[str, Any] = {"mfc": "none", "mec": own, "mew": 2}
        axis.plot(alpha, alpha * mean, "D", ms=11, label=f"this run's alpha, {alpha:g}", **marker)
    axis.axhline(1, color="0.3", ls="--", lw=1.2, label="both losses pull equally")
    axis.set(xscale="log", yscale="log", xlabel="alpha", ylabel="alpha × pixel gradient / text gradient")
    axis.set_title("at the trained weights")
    axis.set_xticks(ALPHAS, [f"{tick:g}" for tick in ALPHAS])
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.minorticks_off()
    axis.legend(loc="lower right")


def draw_pictures(columns: dict[str, list[np.ndarray]]) -> bytes:
    """Return a PNG with columns of pictures, uint8 [S, S, 3] each, under their titles."""
    num_rows = len(next(iter(columns.values())))
    size = (CELL_INCHES * len(columns), CELL_INCHES * num_rows + 0.45)
    with style(), BytesIO() as file:
        figure, axes = plt.subplots(num_rows, len(columns), figsize=size, layout="constrained", squeeze=False)
        for (title, images), column in zip(columns.items(), axes.T, strict=True):
            column[0].set_title(title, fontsize="small", loc="center")
            for image, axis in zip(images, column, strict=True):
                axis.imshow(image, interpolation="nearest")
                axis.set(xticks=[], yticks=[])
                for spine in axis.spines.values():
                    spine.set(color="0.8", linewidth=0.5)
        figure.savefig(file, dpi=DPI, metadata={"Software": None})
        return file.getvalue()


def thumbnail(image: np.ndarray) -> bytes:
    """Return a uint8 image [S, S, 3] as PNG, enlarged by whole pixels."""
    factor = max(1, THUMBNAIL_PX // len(image))
    with BytesIO() as file:
        Image.fromarray(np.kron(image, np.ones((factor, factor, 1), dtype=np.uint8))).save(file, "png")
        return file.getvalue()
