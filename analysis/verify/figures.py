"""The figures of the verification report: charts with their data, in the context ``style``, and pictures as PNG."""

from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from aimv2.analysis.document.style import COLOURS, style
from aimv2.analysis.verify.balance import COSINE, PIXEL, TEXT, Balance
from aimv2.analysis.verify.prefix import PrefixLengths

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


def draw_balance(found: Balance) -> tuple[Figure, pd.DataFrame]:
    """Draw the norms of both losses' gradients and the cosine between them, as training recorded them."""
    figure, (norms, cosine) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharex=True)
    for name, label in ((PIXEL, "pixel loss"), (TEXT, "text loss")):
        norms.plot(found.recorded["samples"], found.recorded[name], "o-", ms=4, label=label)
    norms.set(yscale="log", xlabel="samples seen", ylabel="gradient norm")
    norms.legend()
    cosine.plot(found.recorded["samples"], found.recorded[COSINE], "o-", ms=4, color="0.3")
    cosine.axhline(0, color="0.6", lw=1)
    cosine.set(xlabel="samples seen", ylabel="cosine of the gradients")
    return figure, found.recorded


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
