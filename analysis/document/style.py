"""The look of all figures, and their files: SVG, the data as CSV, and PDF for papers."""

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from aimv2.ablations.study import Study
from aimv2.analysis.document.model import GRID
from aimv2.analysis.document.model import INK as INK  # which figures use
from aimv2.analysis.document.model import PAPER as PAPER
from aimv2.analysis.document.model import SOFT as SOFT

BEHIND = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}  # a text, which lines do not cross
# Colours that people with any colour vision tell apart (after Okabe and Ito 2008), without those that are hard to see
# on white, and the grey, which controls have.
LEFT_OUT = {"#fbafe4", "#ece133", "#949494"}
COLOURS = tuple(color for color in sns.color_palette("colorblind").as_hex() if color not in LEFT_OUT)
GREYS = ("#a5a5a5", "#808080")
MARKERS = ("o", "s", "^", "v", "P", "X", "p", "*", "<", ">")

FONT = "DejaVu Sans"  # comes with Matplotlib
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "aimv2",
    "pdf.fonttype": 42,  # TrueType, which journals require
    "font.family": FONT,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": PAPER,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "figure.facecolor": PAPER,
    "savefig.dpi": 200,  # of parts that are pixels
    "savefig.facecolor": PAPER,
    "legend.frameon": False,
    "lines.markeredgewidth": 0,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}

TITLE = "title:"  # starts the id of an element that shows a text when the pointer is over it
LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")


class ArmLook(NamedTuple):
    """How an arm is drawn."""

    color: str
    marker: str
    linestyle: str


@contextmanager
def style() -> Iterator[None]:
    """Apply the look of all figures. Figures that are drawn within can be saved later, but are no longer pyplot's."""
    others = set(plt.get_fignums())
    look: Any = {**mpl.rcParamsDefault, **STYLE, "backend": "agg"}  # whatever a user's matplotlibrc says
    with plt.rc_context(look):
        yield
    for number in set(plt.get_fignums()) - others:
        plt.close(number)


def looks(study: Study) -> dict[str, ArmLook]:
    """Return the look of each arm and control, the same in every figure: the baseline is black, controls are grey, and
    where colours repeat, lines differ."""
    others = [arm for arm in study.arms if arm != study.baseline]
    lines = itertools.chain.from_iterable([line] * len(COLOURS) for line in ("-", "--", ":"))
    arms = zip(others, itertools.cycle(COLOURS), itertools.cycle(MARKERS), lines, strict=False)
    return {
        study.baseline: ArmLook(INK, "D", "-"),
        **{control: ArmLook(grey, "d", "-") for control, grey in zip(study.controls, GREYS, strict=False)},
        **{arm: ArmLook(color, marker, line) for arm, color, marker, line in arms},
    }


def show_on_hover(artist: Artist, text: str) -> None:
    """Show a text when the pointer is over an artist, in SVG."""
    artist.set_gid(TITLE + text)


def save(figure: Figure, data: pd.DataFrame, folder: Path, name: str, *, export: bool = False) -> None:
    """Write a figure as ``NAME.svg``, and on export as ``.pdf`` and its data as ``.csv``, the same bytes every time."""
    folder.mkdir(parents=True, exist_ok=True)
    svg = folder / f"{name}.svg"
    with style():
        if engine := figure.get_layout_engine():  # it takes longest, so it runs once
            engine.execute(figure)
            figure.set_layout_engine("none")
        figure.savefig(svg, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        if export:
            figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
            data.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    svg.write_text(_compact(svg.read_text()))


def _compact(svg: str) -> str:
    """Shorten an SVG to what can be seen, and turn ids that are texts into titles. Its font is not embedded: Verdana
    has the same widths where the font is missing."""
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(rf"<g id=(\"|'){TITLE}(.*?)\1>", r"<g><title>\2</title>", svg)
    svg = re.sub(r'<g id="[^"]*"(/?)>', r"<g\1>", svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    svg = re.sub(r'style="[^"]*"', lambda found: re.sub("(?<=[:;]) ", "", found[0]), svg)
    svg = re.sub(r'="[^"]*"', lambda found: LONG_NUMBER.sub(lambda number: f"{float(number[0]):.5g}", found[0]), svg)
    svg = re.sub(r" ?\n\s*(?=[A-Za-z\"])", "", svg)  # within paths
    svg = re.sub(r"\n\s*", "\n", svg)
    while (shorter := re.sub(r"<g>\n(<(?:path|use|text)[^\n]*\n)?</g>\n|<g/>\n", r"\1", svg)) != svg:
        svg = shorter
    svg = svg.replace(f"font-family:'{FONT}';", "")
    return svg.replace('<style type="text/css">', f"<style>text{{font-family:'{FONT}',Verdana,sans-serif}}", 1)
