"""A report as data: what it says, before it is Markdown, HTML or JSON.

Text is inline Markdown: ``*emphasis*``, ``**strong**``, code and links. Text from captions, descriptions and errors
passes through ``escape`` first.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from aimv2.base.markdown import escape as escape  # which all sections use

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

# Colours of figures, which HTML replaces by those of the page, light or dark.
INK, SOFT, GRID, PAPER = "#1b1e23", "#6a727b", "#d8dee4", "#ffffff"


@dataclass(frozen=True)
class Table:
    """A table of cells of inline Markdown; ``stacked`` returns one of several lines.

    Attributes:
        name: a short name in lower case, unique in the document: that of its file in LaTeX. Empty if it has none.
    """

    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    name: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Bullets:
    items: list[str]


@dataclass(frozen=True)
class Code:
    """Text that is shown as it is, such as a config."""

    text: str
    language: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure: ``figures/NAME.svg``; its data is exported as ``figures/NAME.csv``.

    Attributes:
        alt: what the figure shows, for readers who cannot see it.
        picture: drawn in the context ``aimv2.analysis.document.style.style``.
    """

    name: str
    alt: str
    caption: str
    picture: "Picture" = field(compare=False, repr=False)
    data: pd.DataFrame = field(compare=False, repr=False)


@dataclass(frozen=True)
class Section:
    """A part with a heading. Sections in its blocks are subsections."""

    title: str
    blocks: "list[Block]"


Block = Paragraph | Bullets | Table | Code | Figure | Section


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
    "studies disagree": VerdictLook("#7b4fb5", "🟪"),
    "undecided": VerdictLook("#b8930a", "🟨"),
    "not testable": VerdictLook("#8a8a8a", "⬜"),
    "beyond reach": VerdictLook("#dcdcdc", "⬜"),
    "not run yet": VerdictLook("#a5a5a5", "⬜"),
}


@dataclass(frozen=True)
class Document:
    """A report: a summary, and details.

    Attributes:
        title: the question in words, where there is one.
        subtitle: the line above the title.
        answer: in a sentence or two.
        lead: the figure beside the answer.
        sections: the rest of the summary.
        details: what follows the summary; HTML shows each on request.
        numbers: what programs read in ``report.json`` beside the text: plain JSON values.
        files: content of further files, by their paths in the report's folder.
        exports: content of files that are written on request.
    """

    title: str
    subtitle: str
    answer: str
    sections: list[Section]
    lead: Figure | None = None
    chips: list[Chip] = field(default_factory=list)
    details: list[Section] = field(default_factory=list)
    numbers: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    exports: Mapping[str, bytes] = field(default_factory=dict)

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
