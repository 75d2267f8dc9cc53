"""A document as LaTeX for pdfLaTeX and tectonic; it needs no package beyond Debian's texlive-latex-recommended."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from analysis.document.latex_text import inline_to_latex, plain_to_latex, unbroken, visible
from analysis.document.model import (
    Block,
    Bullets,
    Cell,
    Code,
    Document,
    Figure,
    Paragraph,
    Quote,
    Section,
    Table,
    lines_of,
    walk,
)

PREAMBLE = r"""\documentclass[10pt,a4paper]{article}
\usepackage[margin=22mm]{geometry}
\usepackage{amssymb,array,booktabs,caption,float,graphicx,longtable,pdflscape}
\usepackage[hidelinks,bookmarks=false]{hyperref}
\captionsetup{font=small,labelfont=bf,justification=raggedright,singlelinecheck=false}
\setcounter{secnumdepth}{0}
\setlength{\parindent}{0pt}
\setlength{\parskip}{6pt plus 2pt}
\setlength{\tabcolsep}{3pt}
\setlength{\LTleft}{0pt}
\setlength{\emergencystretch}{3em}
"""
STRUCK = (
    r"\DeclareRobustCommand{\struck}[1]{\leavevmode\setbox0=\hbox{#1}"
    r"\rlap{\vrule height .75ex depth -.6ex width \wd0}\box0 }"
)
HEADINGS = (r"\section", r"\subsection", r"\subsubsection")
COMFORTABLE = 24  # characters; narrower columns of prose are hard to read
GAP = 1.5  # between columns, in characters


@dataclass(frozen=True)
class Page:
    """Where a table is set: a size of type, and the characters of it on a line."""

    size: str
    num_characters: int
    is_landscape: bool = False


PAGES = (
    Page(r"\footnotesize", 108),
    Page(r"\footnotesize", 165, is_landscape=True),
    Page(r"\scriptsize", 182, is_landscape=True),
)


def to_latex(document: Document) -> str:
    """Return a document as a LaTeX file; its figures are in the folder ``figures`` beside it, as PDF.

    Images that are not in ``document.files`` become their text.
    """
    return _Writer(document.files).page(document)


def tables_of(document: Document) -> dict[str, str]:
    r"""Return each table that has a name as ``tables/NAME.tex``, for ``\input`` into a paper.

    They are plain ``tabular`` as wide as the line, without caption, so that they fit a ``table`` or a ``table*``.
    """
    blocks = walk([*document.introduction, *document.sections])
    named = {block.name: block for block in blocks if isinstance(block, Table) and block.name}
    writer = _Writer(document.files)
    return {f"tables/{name}.tex": writer.tabular(table) for name, table in named.items()}


class _Writer:
    """The parts of a file.

    Args:
        images: paths of the images that may be included.
    """

    def __init__(self, images: Container[str]) -> None:
        self._images = images

    def _inline(self, text: str) -> str:
        return inline_to_latex(text, self._images)

    def page(self, document: Document) -> str:
        """Return the whole file."""
        parts = [
            PREAMBLE + STRUCK,
            rf"\title{{{self._inline(document.title)}}}" + "\n" + r"\author{}\date{}",
            r"\begin{document}" + "\n" + r"\maketitle",
            *filter(None, [self._inline(document.question), self._quoted(document.conclusion)]),
        ]
        if document.lead:
            parts.append(self._figure(document.lead))
        blocks = self._blocks([*document.introduction, *document.sections], level=0)
        return "\n\n".join([*parts, *blocks, r"\end{document}"]) + "\n"

    def _blocks(self, blocks: Sequence[Block], level: int) -> Iterator[str]:
        for block in blocks:
            match block:
                case Section(title, inner):
                    yield from _under(f"{HEADINGS[level]}{{{self._inline(title)}}}", [*self._blocks(inner, level + 1)])
                case Paragraph(text):
                    yield self._inline(text)
                case Quote(text):
                    yield self._quoted(text)
                case Bullets(items):
                    if items:
                        yield _environment(
                            "itemize", r"\setlength{\itemsep}{0pt}", *(rf"\item {self._inline(item)}" for item in items)
                        )
                case Code(text):
                    yield _code(text)
                case Table():
                    yield self._longtable(block)
                case Figure():
                    yield self._figure(block)

    def _quoted(self, text: str) -> str:
        return _environment("quote", rf"\textbf{{{self._inline(text)}}}") if text else ""

    def _figure(self, figure: Figure) -> str:
        return _environment(
            "figure",
            r"\centering",
            rf"\includegraphics[width=\linewidth,height=.8\textheight,keepaspectratio]{{figures/{figure.name}.pdf}}",
            *([rf"\caption{{{self._inline(figure.caption)}}}"] if figure.caption else []),
            rf"\label{{fig:{figure.name}}}",
            arguments="[H]",
        )

    def _longtable(self, table: Table) -> str:
        """Return a table that may run over pages, on a page turned sideways if it is wide."""
        page = _page(table)
        head, rows = self._head(table), [self._row(row) for row in table.rows]
        label = rf"\label{{tab:{table.name}}}" if table.name else ""
        caption = [rf"\caption{{{self._inline(table.caption)}}}{label}\\"] if table.caption else []
        lines = [
            *caption, r"\toprule", *head, r"\endfirsthead", r"\toprule", *head, r"\endhead", r"\bottomrule",
            r"\endfoot", *rows,
        ]  # fmt: skip
        longtable = _environment("longtable", *lines, arguments=f"{{{_columns(table, page)}}}")
        text = f"{{{page.size}\\setlength{{\\LTcapwidth}}{{\\linewidth}}\n{longtable}}}"
        return _environment("landscape", text) if page.is_landscape else text

    def tabular(self, table: Table) -> str:
        page = _page(table)
        lines = [r"\toprule", *self._head(table), *map(self._row, table.rows), r"\bottomrule"]
        note = f"% {visible(table.caption)}\n".replace("\n", " ").strip() + "\n" if table.caption else ""
        packages = (
            r"% needs \usepackage{amssymb,array,booktabs,graphicx,hyperref}, and for struck words:" + f"\n% {STRUCK}\n"
        )
        tabular = _environment("tabular", *lines, arguments=f"{{{_columns(table, page)}}}")
        return f"{note}{packages}{{{page.size}\\setlength{{\\tabcolsep}}{{3pt}}\n{tabular}}}\n"

    def _head(self, table: Table) -> list[str]:
        if not any(table.columns):
            return []
        return [" & ".join(rf"\textbf{{{self._inline(column)}}}" for column in table.columns) + r" \\", r"\midrule"]

    def _row(self, row: Sequence[str | Cell]) -> str:
        return (
            " & ".join(r" \newline ".join(map(self._inline, lines_of(cell))) for cell in row)
            + r" \\ \addlinespace[2pt]"
        )


def _under(heading: str, blocks: list[str]) -> Iterator[str]:
    """Yield blocks under a heading, which goes to the page of a table that lies on its side."""
    sideways = r"\begin{landscape}"
    if blocks and blocks[0].startswith(sideways):
        yield f"{sideways}\n{heading}{blocks[0].removeprefix(sideways)}"
        yield from blocks[1:]
    else:
        yield heading
        yield from blocks


def _environment(name: str, *lines: str, arguments: str = "") -> str:
    return "\n".join([rf"\begin{{{name}}}{arguments}", *lines, rf"\end{{{name}}}"])


def _code(text: str) -> str:
    """Return lines as they are. ``verbatim`` would neither break them nor show characters that are not ASCII."""
    lines = []
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip(" "))
        lines.append(rf"\mbox{{}}{'~' * indent}{plain_to_latex(line.lstrip(' '), is_code=True)}\par")
    return "{" + "\n".join([r"\ttfamily\footnotesize\raggedright\setlength{\parskip}{0pt}", *lines]) + "}"


def _widths(table: Table) -> tuple[list[int], list[int], list[int]]:
    """Return the longest word, the longest line and the longest cell of each column, in characters."""
    words, lines, cells = [], [], []
    for number, column in enumerate(table.columns):
        texts = [lines_of(row[number]) for row in table.rows]
        pieces = [len(piece) for lines_ in ((column,), *texts) for line in lines_ for piece in unbroken(line)]
        words.append(max(pieces, default=0) + 1)
        lines.append(max([words[-1], *(len(visible(line)) + 1 for each in texts for line in each)]))
        cells.append(max([words[-1], *(sum(len(visible(line)) + 1 for line in each) for each in texts)]))
    return words, lines, cells


def _page(table: Table) -> Page:
    """Return the first page on which no word is too long and no column of prose too narrow."""
    words, lines, _ = _widths(table)
    needed = sum(max(word, min(line, COMFORTABLE)) + GAP for word, line in zip(words, lines, strict=True))
    return next((page for page in PAGES if needed <= page.num_characters), PAGES[-1])


def _columns(table: Table, page: Page) -> str:
    """Return the columns' specification: as wide as their longest lines, or else as their cells need."""
    words, lines, cells = _widths(table)
    room = page.num_characters - GAP * len(words)
    if sum(lines) <= room:
        widths = [float(width) for width in lines]
    elif (spare := room - sum(words)) > 0:
        # A column of a text that is four times as long is twice as wide, so that the texts end at similar heights.
        shares = [(cell - word) ** 0.5 for word, cell in zip(words, cells, strict=True)]
        widths = [word + spare * share / sum(shares) for word, share in zip(words, shares, strict=True)]
    else:
        widths = [word * room / sum(words) for word in words]
    column = r">{{\raggedright\arraybackslash}}p{{\dimexpr {:.4f}\linewidth-2\tabcolsep\relax}}"
    return "@{}" + "".join(column.format((width + GAP) / page.num_characters) for width in widths) + "@{}"
