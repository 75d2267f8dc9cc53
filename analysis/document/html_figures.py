"""Figures in a page: their markup with the page's colours, and their data."""

import html
import re

import pandas as pd
from markupsafe import Markup

from analysis.document.model import Figure
from analysis.document.style import GRID, INK, PAPER, SOFT

MAX_ROWS = 300  # of a figure's data that the page has too

# Colours of figures that the page sets, so that they can be read in the dark.
PAGE_COLOURS = {INK: "currentColor", SOFT: "var(--soft)", GRID: "var(--line)", PAPER: "var(--paper)"}


def data_fold(figure: Figure) -> Markup:
    """Return a figure's data, folded."""
    files = Markup(", ").join(
        Markup('<a href="figures/{0}.{1}">{2}</a>').format(figure.name, end, end.upper())
        for end in ("csv", "svg", "pdf")
    )
    shown = figure.data.head(MAX_ROWS)
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in shown.columns)
    rows = Markup("\n").join(
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(_plain(value)) for value in row))
        for row in shown.itertuples(index=False)
    )
    rest = f" The first {MAX_ROWS} of {len(figure.data)} rows." if len(figure.data) > MAX_ROWS else ""
    return Markup(
        '<details class="data"><summary>Data of the figure</summary>\n<p>Files: {files}.{rest}</p>\n'
        '<div class="scroll" tabindex="0" role="region" aria-label="data of the figure"><table>\n'
        "<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div></details>"
    ).format(files=files, rest=rest, head=head, rows=rows)


def _plain(value: object) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.5g}"
    return str(value)


def inline_svg(svg: str, prefix: str, alt: str) -> Markup:
    """Return a figure's markup with its text for screen readers, ids of its own, and the colours of the page.

    Matplotlib repeats ids such as ``clip0`` in every figure.
    """
    svg = svg[svg.index("<svg") :]
    size = re.search(r'width="([\d.]+)pt"', svg)
    width = f' style="--width: {float(size[1]):.0f}pt"' if size else ""
    svg = re.sub(r' (width|height)="[^"]*"', "", svg, count=2)  # the first two are those of the whole
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}", svg)
    for own, of_page in PAGE_COLOURS.items():
        svg = svg.replace(own, of_page)
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"{width}', 1))
