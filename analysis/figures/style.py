"""The look of all figures, and their files: SVG, PDF and the data as CSV."""

import base64
import html
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from fontTools import subset
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from ablations.study import Study

# Pages replace these four by their own, light or dark.
INK, SOFT, GRID, PAPER = "#1b1e23", "#6a727b", "#d8dee4", "#ffffff"
WHITE = "#fefefe"  # white on dark, which stays white on dark pages

# Seven colours that people with any colour vision tell apart (Okabe and Ito 2008, darker as in seaborn's "colorblind").
# Its grey is taken by controls; its yellow and light pink are hard to see on white.
COLOURS = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#56b4e9")
GREYS = ("#a5a5a5", "#808080")
MARKERS = ("o", "s", "^", "v", "P", "X", "p", "*", "<", ">")

FONT = "DejaVu Sans"  # comes with Matplotlib
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text; its font is embedded
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
STYLES = re.compile(r'style="([^"]*)"')
NUMBER = re.compile(r"-?\d+\.\d{3,}")


class Look(NamedTuple):
    """How an arm is drawn."""

    color: str
    marker: str
    linestyle: str


@contextmanager
def style() -> Iterator[None]:
    """Apply the look of all figures."""
    look: Any = {**mpl.rcParamsDefault, **STYLE, "backend": "agg"}  # whatever a user's matplotlibrc says
    with plt.rc_context(look):
        yield


def looks(study: Study) -> dict[str, Look]:
    """Return the look of each arm and control, the same in every figure.

    The baseline is black, controls are grey. Where colours repeat, lines differ.
    """
    others = [arm for arm in study.arms if arm != study.baseline]
    lines = itertools.chain.from_iterable([line] * len(COLOURS) for line in ("-", "--", ":"))
    arms = zip(others, itertools.cycle(COLOURS), itertools.cycle(MARKERS), lines, strict=False)
    return {
        study.baseline: Look(INK, "D", "-"),
        **{control: Look(grey, "d", "-") for control, grey in zip(study.controls, GREYS, strict=False)},
        **{arm: Look(color, marker, line) for arm, color, marker, line in arms},
    }


def show_on_hover(artist: Artist, text: str) -> None:
    """Show a text when the pointer is over an artist, in SVG."""
    artist.set_gid(TITLE + text)


def save(figure: Figure, data: pd.DataFrame, folder: Path, name: str) -> None:
    """Write a figure as ``NAME.svg`` and ``NAME.pdf``, and its data as ``NAME.csv``, the same bytes every time."""
    folder.mkdir(parents=True, exist_ok=True)
    with style():
        svg = folder / f"{name}.svg"
        figure.savefig(svg, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        svg.write_text(_compact(svg.read_text(), name))
        figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    plt.close(figure)
    data.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")


def _compact(svg: str, name: str) -> str:
    """Shorten an SVG to what can be seen, turn ids that are texts into titles, and embed the font.

    Styles that repeat become classes, whose names start with that of the figure, as pages hold several.
    """
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = NUMBER.sub(lambda found: f"{float(found[0]):.5g}", svg)
    svg = re.sub(rf'<g id="{TITLE}([^"]*)">', r"<g><title>\1</title>", svg)
    svg = re.sub(r'<g id="[^"]*"(/?)>', r"<g\1>", svg)
    svg = re.sub(r" ?\n\s*(?=[A-Za-z\"])", "", svg)  # within paths
    svg = re.sub(r"\n\s*", "\n", svg).replace("<g/>\n", "")
    while (shorter := svg.replace("<g>\n</g>\n", "")) != svg:
        svg = shorter
    repeated = [text for text, count in Counter(STYLES.findall(svg)).most_common() if count > 2]
    classes = {text: f"{name}-{number}" for number, text in enumerate(repeated)}
    svg = STYLES.sub(lambda found: f'class="{classes[found[1]]}"' if found[1] in classes else found[0], svg)
    rules = [f".{name} {{ {text} }}" for text, name in classes.items()]
    if characters := html.unescape("".join(re.findall(r"<text[^>]*>(.*?)</text>", svg, flags=re.S))):
        rules.append(_font_face(characters))
    return svg.replace("<defs>", "<defs>\n<style>{}</style>".format("\n".join(rules)), 1)


def _font_face(characters: str) -> str:
    """Return the rule that embeds the font with these characters, and without hints for small screens."""
    options = subset.Options(
        flavor="woff", hinting=False, layout_features=[], drop_tables=["FFTM", "MATH", "GPOS", "GSUB", "GDEF"]
    )
    with TTFont(font_manager.findfont(FONT)) as font, io.BytesIO() as file:
        subsetter = subset.Subsetter(options)
        subsetter.populate(text=characters)
        subsetter.subset(font)
        subset.save_font(font, file, options)
        data = base64.b64encode(file.getvalue()).decode()
    return f'@font-face {{ font-family: "{FONT}"; src: url(data:font/woff;base64,{data}) }}'
