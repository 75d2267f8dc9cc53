"""A report as data: what it says, before it is Markdown, HTML or JSON.

Text is inline Markdown: ``*emphasis*``, ``**strong**``, code and links. Text from captions, descriptions and errors
passes through ``escape`` first.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from aimv2.base.errors import escape as escape  # which all sections use

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

# Colours of figures, which HTML replaces by those of the page, light or dark.
INK, SOFT, GRID, PAPER = "#1b1e23", "#6a727b", "#d8dee4", "#ffffff"


@dataclass(frozen=True)
class Table:
    """A table of cells of inline Markdown; ``stacked`` returns one of several lines."""

    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    name: str = ""  # unique in the document: that of its file in LaTeX
    caption: str = ""


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Bullets:
    items: list[str]


@dataclass(frozen=True)
class Figure:
    """A figure: ``figures/NAME.svg``, drawn in the context ``document.style.style``; data is exported as CSV."""

    name: str
    alt: str  # what it shows, for readers who cannot see it
    caption: str
    picture: "Picture" = field(compare=False, repr=False)
    data: pd.DataFrame = field(compare=False, repr=False)


@dataclass(frozen=True)
class Section:
    """A part with a heading. Sections in its blocks are subsections."""

    title: str
    blocks: "list[Block]"


Block = Paragraph | Bullets | Table | Figure | Section


@dataclass(frozen=True)
class Chip:
    """A verdict, one of ``VERDICTS``, beside the answer, and the name of what was judged."""

    name: str
    verdict: str


class VerdictLook(NamedTuple):
    """How a verdict is shown: its colour, and a mark of that colour for text."""

    color: str
    mark: str


VERDICTS: Mapping[str, VerdictLook] = {
    "supported": VerdictLook("#2e7d32", "🟩"),
    "contradicted": VerdictLook("#c62828", "🟥"),
    "smaller than claimed": VerdictLook("#d9730d", "🟧"),
    "negligible": VerdictLook("#8d6e63", "🟫"),
    "studies disagree": VerdictLook("#7b4fb5", "🟪"),
    "undecided": VerdictLook("#b8930a", "🟨"),
    "not testable": VerdictLook("#8a8a8a", "⬜"),
    "beyond reach": VerdictLook("#dcdcdc", "⬜"),
    "not run yet": VerdictLook("#a5a5a5", "⬜"),
}


@dataclass(frozen=True)
class Document:
    """A report: a summary, and details, which HTML shows on request."""

    title: str
    subtitle: str  # above the title
    answer: str
    sections: list[Section]  # of the summary
    lead: Figure | None = None  # beside the answer
    chips: list[Chip] = field(default_factory=list)
    details: list[Section] = field(default_factory=list)
    numbers: Mapping[str, Any] = field(default_factory=dict)  # JSON values for programs
    files: Mapping[str, bytes] = field(default_factory=dict)  # further ones, by their paths in the report's folder
    exports: Mapping[str, bytes] = field(default_factory=dict)  # files that are written on request

    def figures(self) -> list[Figure]:
        """Return all figures, each once."""
        blocks = walk([*self.sections, *self.details])
        figures = [self.lead, *(block for block in blocks if isinstance(block, Figure))]
        return list({figure.name: figure for figure in figures if figure is not None}.values())


def walk(blocks: Sequence[Block]) -> Iterator[Block]:
    """Yield all blocks, those in sections after their section."""
    for block in blocks:
        yield block
        if isinstance(block, Section):
            yield from walk(block.blocks)


def stacked(*lines: str) -> str:
    """Return a cell of these lines."""
    return "<br>".join(lines)


def code_span(text: str) -> str:
    """Return text as inline code; its fence is longer than any run of backticks in the text."""
    text = text.replace("\n", " ")
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    has_edge = text[:1] in ("`", " ") or text[-1:] in ("`", " ")
    pad = " " if has_edge and text.strip() else ""  # Markdown takes one space off each side
    return f"{fence}{pad}{text}{pad}{fence}"
