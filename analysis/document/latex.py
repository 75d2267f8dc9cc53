r"""The tables of a document as LaTeX, for ``\input`` into a paper: plain text, without fonts, links and images."""

import re
from collections.abc import Sequence

from markdown_it import MarkdownIt

from aimv2.analysis.document.model import Cell, Document, Table, lines_of

PACKAGES = r"% needs \usepackage{booktabs,tabularx}; LuaLaTeX or XeLaTeX for characters that pdfLaTeX does not know"
NARROW = 14  # characters, up to which a column is as wide as its text; the others share the rest of the line

# "[" and "*" after the end of a table's row would be its arguments.
SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}", "*": "{*}",
} | {character: rf"\{character}" for character in "{}%#&$_"}  # fmt: skip
MATHS = {
    "±": r"\pm", "×": r"\times", "·": r"\cdot", "−": "-", "≤": r"\leq", "≥": r"\geq", "≈": r"\approx", "∞": r"\infty",
    "→": r"\rightarrow", "Δ": r"\Delta", "α": r"\alpha", "β": r"\beta", "μ": r"\mu", "ρ": r"\rho", "σ": r"\sigma",
    "ω": r"\omega", "²": "^2", "³": "^3",
}  # fmt: skip
LATEX = str.maketrans(SPECIAL | {character: f"${command}$" for character, command in MATHS.items()})
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("strikethrough")


def tables_of(document: Document) -> dict[str, str]:
    """Return each table that has a name as ``tables/NAME.tex``.

    They are as wide as the line, without caption, so that they fit a ``table`` or a ``table*``.
    """
    named = {block.name: block for block in document.blocks() if isinstance(block, Table) and block.name}
    return {f"tables/{name}.tex": _tabular(table) for name, table in named.items()}


def to_latex(markdown: str) -> str:
    """Return the text of inline Markdown as LaTeX in which nothing is markup; numbers get minus signs."""
    tokens = MARKDOWN.parseInline(markdown)[0].children or []
    text = "".join(token.content or " " * token.type.endswith("break") for token in tokens)
    return re.sub(r"(?<![\w.)])-(?=\.?\d)", "−", " ".join(text.split())).translate(LATEX)


def _tabular(table: Table) -> str:
    def row(cells: Sequence[str | Cell]) -> str:
        return " & ".join(r" \newline ".join(map(to_latex, lines_of(cell))) for cell in cells) + r" \\"

    lines = [
        *([f"% {' '.join(table.caption.split())}"] if table.caption else []),
        PACKAGES,
        rf"\begin{{tabularx}}{{\linewidth}}{{@{{}}{_columns(table)}@{{}}}}",
        r"\toprule",
        *([row(table.columns), r"\midrule"] if any(table.columns) else []),
        *map(row, table.rows),
        r"\bottomrule",
        r"\end{tabularx}",
    ]
    return "\n".join(lines) + "\n"


def _columns(table: Table) -> str:
    """Return the kind of each column: as wide as its text, or a share of the rest of the line; at least one shares."""
    is_narrow = [
        all(len(lines) < 2 and len("".join(lines)) <= NARROW for lines in [(name,), *map(lines_of, cells)])
        for name, *cells in zip(table.columns, *table.rows, strict=True)
    ]
    if all(is_narrow):
        is_narrow[0] = False
    return "".join("l" if one else r">{\raggedright\arraybackslash}X" for one in is_narrow)
