r"""The tables of a document as LaTeX, for ``\input`` into a paper.

They compile with pdfLaTeX and tectonic, and need no package beyond Debian's texlive-latex-recommended.
"""

import re
import unicodedata
from collections.abc import Container, Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from analysis.document.model import Cell, Document, Table, lines_of, walk

PACKAGES = r"% needs \usepackage{booktabs,graphicx,hyperref,tabularx}"
STRUCK = (
    r"\providecommand{\struck}[1]{\leavevmode\setbox0=\hbox{#1}"
    r"\rlap{\vrule height .75ex depth -.6ex width \wd0}\box0 }"
)
NARROW = 14  # characters, up to which a column is as wide as its text; the others share the rest of the line
MAX_WORD = 16  # longer words may be broken after punctuation: paths, names of metrics, digests
BREAK = re.compile(r"(?<=[/_=:.,;&?-])(?=\w)")

# "[" and "*" after the end of a table's row would be its arguments; double quotes and "`" would be curled.
SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "`": r"{\char96}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "\u00a0": "~",
} | {character: rf"\{character}" for character in "{}%#&$_"}
MATHS = {
    "±": r"\pm", "×": r"\times", "·": r"\cdot", "÷": r"\div", "−": "-", "≤": r"\leq", "≥": r"\geq", "≠": r"\neq",
    "≈": r"\approx", "∞": r"\infty", "→": r"\rightarrow", "←": r"\leftarrow", "Δ": r"\Delta", "α": r"\alpha",
    "β": r"\beta", "λ": r"\lambda", "μ": r"\mu", "µ": r"\mu", "ρ": r"\rho", "σ": r"\sigma", "χ": r"\chi",
    "ω": r"\omega", "°": r"^\circ", "²": "^2", "³": "^3",
}  # fmt: skip
KNOWN = frozenset("–—‘’“”…§¶©£ßæÆœŒøØłŁı")  # as they are in every encoding of LaTeX's fonts, like accented letters
ACCENTS = frozenset("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327")

MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("strikethrough")
OPENING = {"em_open": r"\emph{", "strong_open": r"\textbf{"}


def tables_of(document: Document) -> dict[str, str]:
    """Return each table that has a name as ``tables/NAME.tex``.

    They are as wide as the line, without caption, so that they fit a ``table`` or a ``table*``. Images that are not in
    ``document.files`` become their text.
    """
    blocks = walk([*document.introduction, *document.sections])
    named = {block.name: block for block in blocks if isinstance(block, Table) and block.name}
    return {f"tables/{name}.tex": _tabular(table, document.files) for name, table in named.items()}


def to_latex(markdown: str, images: Container[str] = ()) -> str:
    """Return inline Markdown as LaTeX. Links within the page become text, as LaTeX has other anchors.

    A character that is not known here becomes its code point, such as ``<U+4E2D>``, so that it is seen and not lost.

    Args:
        images: paths of the images that may be included; of others, the text is shown.
    """
    return "".join(_commands(MARKDOWN.parseInline(markdown)[0].children or [], images))


def _tabular(table: Table, images: Container[str]) -> str:
    def row(cells: Sequence[str | Cell]) -> str:
        shown = (r" \newline ".join(to_latex(line, images) for line in lines_of(cell)) for cell in cells)
        return " & ".join(shown) + r" \\"

    head = [row([f"**{column}**" for column in table.columns]), r"\midrule"] if any(table.columns) else []
    lines = [
        *([f"% {' '.join(table.caption.split())}"] if table.caption else []),
        PACKAGES,
        STRUCK,
        rf"\begin{{tabularx}}{{\linewidth}}{{@{{}}{_columns(table)}@{{}}}}",
        r"\toprule",
        *head,
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


def _commands(tokens: Sequence[Token], images: Container[str]) -> Iterator[str]:
    is_struck = False
    for token in tokens:
        match token.type:
            case "text" | "code_inline":
                is_code = token.type == "code_inline"
                words = _plain(token.content, is_code=is_code)
                if is_struck:  # each word by itself, so that lines can break between them
                    words = re.sub(r"[^ ]+", r"\\struck{\g<0>}", words)
                yield rf"\texttt{{{words}}}" if is_code else words
            case "em_open" | "strong_open":
                yield OPENING[token.type]
            case "em_close" | "strong_close" | "link_close":
                yield "}"
            case "s_open" | "s_close":
                is_struck = token.type == "s_open"
            case "link_open":
                yield _link(str(token.attrs["href"]))
            case "image" if token.attrs["src"] not in images:
                yield _plain(token.content)
            case "image":
                picture = rf"\includegraphics[height=4em]{{{token.attrs['src']}}}"
                yield rf"\raisebox{{\dimexpr 1.6ex-\height\relax}}{{{picture}}}"  # its top on the line of text
            case "softbreak" | "hardbreak":
                yield " "
            case other:
                raise AssertionError(f"inline Markdown has no {other}")


def _plain(text: str, *, is_code: bool = False) -> str:
    """Return text as LaTeX in which nothing is markup; numbers get minus signs, except in code."""
    if not is_code:
        text = re.sub(r"(?<![\w.)])-(?=\.?\d)", "−", text)
        text = re.sub(r"(?<=\d) %", "\u00a0%", text)
    text = "".join(_word(word) for word in re.split(r"(\s+)", text))
    return re.sub(r"(?<=-)-|(?<=')'", r"{}\g<0>", text)  # "--" and "''" are ligatures


def _word(word: str) -> str:
    if word.isspace() and "\u00a0" not in word:
        return " "
    pieces = BREAK.split(word) if len(word) > MAX_WORD else [word]
    return r"\allowbreak{}".join("".join(map(_character, piece)) for piece in pieces)


def _character(character: str) -> str:
    if character in SPECIAL:
        return SPECIAL[character]
    if character in MATHS:
        return rf"\ensuremath{{{MATHS[character]}}}"
    base, *marks = tuple(unicodedata.normalize("NFD", character))
    is_letter = base.isascii() and base.isalpha() and len(marks) == 1 and marks[0] in ACCENTS
    if " " <= character <= "~" or character in KNOWN or is_letter:
        return character
    return " " if character.isspace() else rf"\texttt{{\textless{{}}U+{ord(character):04X}\textgreater{{}}}}"


def _link(target: str) -> str:
    """Return the start of a link. ``markdown_it`` has percent-encoded most that LaTeX would read as markup."""
    if not target.startswith(("https://", "http://", "mailto:")):
        return "{"
    for character in "$~^\\{}":
        target = target.replace(character, f"%{ord(character):02X}")
    escaped = re.sub("([%#&_])", r"\\\1", target)
    return rf"\href{{{escaped}}}{{"
