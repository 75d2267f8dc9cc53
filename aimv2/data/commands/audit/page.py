"""The page of an audit: one HTML file with its figures inside. Captions and keys are untrusted, and are escaped."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from PIL import Image

from aimv2.base.files import write_text
from aimv2.data.pairs import CAPTION_KINDS, CaptionKind
from aimv2.tools.data.audit.findings import Part
from aimv2.tools.data.audit.survey import NO_PROBLEM

COLOURS = {"train": "#0173b2", "short": "#0173b2", "dense": "#8a4fa3"}
OTHER = "#de8f05"
BINS = 40


class Example(NamedTuple):
    """Two near copies: pictures of one size, where they are from, and in how many bits their hashes differ."""

    pictures: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    distance: int


class Page(NamedTuple):
    """What an audit found: values for ``audit.json``, and what the figures show, by source."""

    values: dict[str, Any]
    parts: list[list[Part]]
    examples: tuple[Example, ...]
    kinds: tuple[tuple[CaptionKind, ...], ...]


def write_page(path: Path, page: Page) -> None:
    """Write the page, atomically."""
    environment = Environment(
        loader=PackageLoader("aimv2.tools.data.audit"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "share": share, "size": in_bytes}
    figures = [figure(parts, kinds) for parts, kinds in zip(page.parts, page.kinds, strict=True)]
    examples = [
        {
            "pictures": [_png(picture) for picture in example.pictures],
            "names": example.names,
            "distance": example.distance,
        }
        for example in page.examples
    ]
    samples = [part.name for of_source in page.parts for part in of_source if not part.is_whole]
    values = page.values | {"figures": figures, "examples": examples, "samples": samples}
    write_text(path, environment.get_template("audit.html.j2").render(values))


def number(value: float) -> str:
    """Format a number: whole ones with separators, others with three digits."""
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def share(part: float, whole: float) -> str:
    """Format a share in percent; one that is not 0 or 100 is not rounded to it."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.01:
        return "< 0.01 %"
    if 99.99 < percent < 100:
        return "> 99.99 %"
    return f"{percent:.3g} %"


def in_bytes(value: float) -> str:
    """Format a number of bytes."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.3g} {unit}"


def figure(parts: Sequence[Part], kinds: Sequence[CaptionKind]) -> str:
    """Return the histograms of a source as a data URL."""
    panels = 3 + (2 if kinds else 0)
    drawn = Figure(figsize=(3.3 * panels, 2.5), layout="constrained")
    axes = drawn.subplots(1, panels)
    for place, part in enumerate(parts):
        usable_N = part.fact_N[part.fact_N["problem"] == NO_PROBLEM]
        colour = COLOURS.get(part.side, OTHER) if place < 2 else "#029e73"
        sides_N = np.minimum(usable_N["width"], usable_N["height"])
        ratio_N = usable_N["width"] / np.maximum(usable_N["height"], 1)
        kilobytes_N = usable_N["num_bytes"][usable_N["num_bytes"] > 0] / 1000
        for axis, value_N in zip(axes, (sides_N, ratio_N, kilobytes_N), strict=False):
            _histogram(axis, value_N, colour, part.side, is_log=True)
    titles = ["shorter side, px", "width / height", "file, kB"]
    if kinds:
        titles += ["words in a caption", "tokens in a caption"]
        fact_N = np.concatenate([part.fact_N for part in parts])
        for kind in kinds:
            place = CAPTION_KINDS.index(kind)
            usable_N = fact_N[fact_N["caption_problem"][:, place] == NO_PROBLEM]
            for axis, name in zip(axes[3:], ("words", "tokens"), strict=True):
                _histogram(axis, usable_N[name][:, place], COLOURS[kind], kind, is_log=False)
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.set_yticks([])
        if axis.get_legend_handles_labels()[1]:
            axis.legend(fontsize=8, frameon=False)
        else:
            axis.set_xticks([])
            axis.text(0.5, 0.5, "none", ha="center", transform=axis.transAxes, fontsize=9)
    content = io.BytesIO()
    drawn.savefig(content, format="svg")
    return "data:image/svg+xml;base64," + base64.b64encode(content.getvalue()).decode()


def _histogram(axis: Axes, value_N: np.ndarray, colour: str, label: str, *, is_log: bool) -> None:
    """Draw the shares of values in bins, of which the outermost hold all that is further out."""
    if not len(value_N):
        return
    low, high = np.percentile(value_N, (0.5, 99.5)).tolist()
    if is_log:
        low, high = max(low, 1e-3), max(high, 1e-3)
        edges = np.geomspace(low / 1.05, high * 1.05, BINS + 1)
        axis.set_xscale("log")
        is_wide = edges[-1] > 50 * edges[0]
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0,) if is_wide else (1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_formatter(lambda value, _: "")
    else:
        step = max(1, round((high - low) / BINS))
        edges = np.arange(int(low), int(high) + step + 1, step) - 0.5
    weights = np.full(len(value_N), 1 / len(value_N))
    axis.hist(
        np.clip(value_N, edges[0], edges[-1]),
        bins=edges.tolist(),
        weights=weights,
        color=colour,
        alpha=0.6,
        label=label,
    )


def _png(picture: np.ndarray) -> str:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
