"""Plain text and inline Markdown as LaTeX.

The result is ASCII and needs no font encoding beyond LaTeX's own, so it compiles with every engine.
"""

import re
import unicodedata
from collections.abc import Container, Iterator, Sequence
from functools import lru_cache

from markdown_it import MarkdownIt
from markdown_it.token import Token

MAX_WORD = 16  # longer words may be broken after punctuation: paths, names of metrics, digests
IMAGE_WIDTH = 10  # characters, of an image in a cell

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
    "≈": r"\approx", "∞": r"\infty", "→": r"\rightarrow", "←": r"\leftarrow", "↑": r"\uparrow", "↓": r"\downarrow",
    "Δ": r"\Delta", "Σ": r"\Sigma", "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ε": r"\epsilon",
    "λ": r"\lambda", "μ": r"\mu", "µ": r"\mu", "ρ": r"\rho", "σ": r"\sigma", "τ": r"\tau", "χ": r"\chi",
    "°": r"^\circ", "²": "^2", "³": "^3", "¹": "^1", "✓": r"\surd", "•": r"\bullet",
}  # fmt: skip
SYMBOLS = {
    "–": r"\textendash{}", "—": r"\textemdash{}", "‘": r"\textquoteleft{}", "’": r"\textquoteright{}",
    "“": r"\textquotedblleft{}", "”": r"\textquotedblright{}", "…": r"\ldots{}", "§": r"\S{}",
    "¶": r"\P{}", "©": r"\copyright{}", "£": r"\pounds{}", "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}",
    "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}", "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}",
}  # fmt: skip
ACCENTS = dict(
    zip("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327", "`'^~=u.\"rHvc", strict=True)
)

INTERVAL = re.compile(r"\[[-+−]?[\d.,]+, [-+−]?[\d.,]+\]")
BREAK = re.compile(r"(?<=[/_=:.,;&?-])(?=\w)")
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("strikethrough")
OPENING = {"em_open": r"\emph{", "strong_open": r"\textbf{"}


def plain_to_latex(text: str, *, is_code: bool = False) -> str:
    """Return text as LaTeX in which nothing is markup.

    A character that is not known here becomes its code point, such as ``<U+4E2D>``, so that it is seen and not lost.

    Args:
        is_code: True to leave hyphens before digits and spaces in intervals as they are.
    """
    return "".join(_word(word) for word in re.split(r"(\s+)", text if is_code else _as_numbers(text)))


def inline_to_latex(markdown: str, images: Container[str] = ()) -> str:
    """Return inline Markdown as LaTeX. Links within the page become text, as LaTeX has other anchors.

    Args:
        images: paths of the images that may be included; of others, the text is shown.
    """
    return "".join(_commands(_tokens(markdown), images))


def unbroken(markdown: str) -> list[str]:
    """Return the pieces of inline Markdown, without markup, that are not broken across lines."""
    return [piece for word in re.split(r"[ \t\n]+", _as_numbers(visible(markdown))) for piece in _pieces(word)]


def visible(markdown: str) -> str:
    """Return the text of inline Markdown without its markup; images become marks of their width."""
    shown = {"softbreak": " ", "hardbreak": " ", "image": "\N{BLACK SQUARE}" * IMAGE_WIDTH}
    return "".join(shown.get(token.type, token.content) for token in _tokens(markdown))


@lru_cache(maxsize=8192)  # a cell of a table is read several times, for the widths of columns and for its text
def _tokens(markdown: str) -> Sequence[Token]:
    return MARKDOWN.parseInline(markdown)[0].children or []


def _as_numbers(text: str) -> str:
    """Return text with minus signs, and with intervals and percentages that stay on one line."""
    text = re.sub(r"(?<![\w.)])-(?=\.?\d)", "−", text)
    text = re.sub(r"(?<=\d) %", "\u00a0%", text)
    return INTERVAL.sub(lambda found: found[0].replace(" ", "\u00a0"), text)


def _word(word: str) -> str:
    if word.isspace() and "\u00a0" not in word:
        return " "
    text = r"\allowbreak{}".join("".join(map(_character, piece)) for piece in _pieces(word))
    return re.sub(r"(?<=-)-|(?<=')'", r"{}\g<0>", text)  # "--" and "''" are ligatures


def _pieces(word: str) -> list[str]:
    return BREAK.split(word) if len(word) > MAX_WORD else [word]


def _character(character: str) -> str:
    if character in SPECIAL:
        return SPECIAL[character]
    if " " <= character <= "~":
        return character
    if character.isspace():
        return " "
    if character in MATHS:
        return rf"\ensuremath{{{MATHS[character]}}}"
    if character in SYMBOLS:
        return SYMBOLS[character]
    base, *marks = tuple(unicodedata.normalize("NFD", character))
    if len(marks) == 1 and marks[0] in ACCENTS and base.isascii() and base.isalpha():
        # The dot of an i or j gives way to the accent.
        letter = rf"\{base}" if base in "ij" and marks[0] != "\u0327" else base
        return rf"\{ACCENTS[marks[0]]}{{{letter}}}"
    return rf"\texttt{{\textless{{}}U+{ord(character):04X}\textgreater{{}}}}"


def _commands(tokens: Sequence[Token], images: Container[str]) -> Iterator[str]:
    is_struck = False
    for token in tokens:
        match token.type:
            case "text":
                yield _struck(token.content) if is_struck else plain_to_latex(token.content)
            case "code_inline":
                code = rf"\texttt{{{plain_to_latex(token.content, is_code=True)}}}"
                yield rf"\struck{{{code}}}" if is_struck else code
            case "em_open" | "strong_open":
                yield OPENING[token.type]
            case "em_close" | "strong_close" | "link_close":
                yield "}"
            case "s_open" | "s_close":
                is_struck = token.type == "s_open"
            case "link_open":
                yield _link(str(token.attrs["href"]))
            case "image" if token.attrs["src"] not in images:
                yield plain_to_latex(token.content)
            case "image":
                picture = rf"\includegraphics[height=4em]{{{token.attrs['src']}}}"
                yield rf"\raisebox{{\dimexpr 1.6ex-\height\relax}}{{{picture}}}"  # its top on the line of text
            case "softbreak":
                yield " "
            case "hardbreak":
                yield r"\newline{}"
            case other:
                raise AssertionError(f"inline Markdown has no {other}")


def _struck(text: str) -> str:
    """Return text in which each word is struck out by itself, so that lines can break between them."""
    words = re.split(r"(\s+)", text)
    return "".join(rf"\struck{{{plain_to_latex(word)}}}" if word.strip() else word for word in words)


def _link(target: str) -> str:
    """Return the start of a link. ``markdown_it`` has percent-encoded most that LaTeX would read as markup."""
    if not target.startswith(("https://", "http://", "mailto:")):
        return "{"
    for character in "$~^\\{}":
        target = target.replace(character, f"%{ord(character):02X}")
    escaped = re.sub("([%#&_])", r"\\\1", target)
    return rf"\href{{{escaped}}}{{"
