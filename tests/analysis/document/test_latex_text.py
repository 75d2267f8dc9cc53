"""Text as LaTeX, against a reader of LaTeX that is written the obvious way."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.document.latex_text import inline_to_latex, plain_to_latex, unbroken, visible
from analysis.document.model import escape

WORDS = {
    "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<", "textgreater": ">",
    "textbar": "|", "textendash": "–", "textemdash": "—", "textquoteleft": "‘", "textquoteright": "’",
    "textquotedblleft": "“", "textquotedblright": "”", "ldots": "…", "allowbreak": "",
}  # fmt: skip
TOKEN = re.compile(
    r"\\texttt\{\\textless\{\}U\+(?P<code>[0-9A-F]{4,6})\\textgreater\{\}\}"
    r"|\\(?P<word>[a-z]+)\{\}"
    r"|\\(?P<special>[{}%#&$_])"
    r"|\{\\char(?P<char>\d+)\}"
    r"|\{(?P<group>[\[\]*])\}"
    r"|(?P<nothing>\{\})"
    r"|\\ensuremath\{(?P<maths>-|\\pm|\\times|\\geq|\\leq|\\Delta|\^2)\}"
    r"|\\(?P<accent>['\"cv])\{(?P<letter>\\?[A-Za-z])\}"
    r"|(?P<tie>~)"
    r"|(?P<plain>[^\\{}%#&$_~^<>|\"`*\[\]])",
    re.S,
)
MATHS = {"-": "−", r"\pm": "±", r"\times": "×", r"\geq": "≥", r"\leq": "≤", r"\Delta": "Δ", "^2": "²"}
ACCENTED = {"'e": "é", '"u': "ü", "vc": "č", "cc": "ç", "'\\i": "í", '"\\i': "ï"}


def read(latex):
    """Return the text that LaTeX would set; fail where it would see markup or a ligature."""
    assert latex.isascii()
    text, position = [], 0
    while position < len(latex):
        found = TOKEN.match(latex, position)
        assert found, f"unescaped: {latex[position : position + 20]!r}"
        position = found.end()
        match found.lastgroup:
            case "code":
                text.append(chr(int(found["code"], 16)))
            case "word":
                text.append(WORDS[found["word"]])
            case "special" | "group" | "plain":
                text.append(found[found.lastgroup])
            case "char":
                text.append(chr(int(found["char"])))
            case "maths":
                text.append(MATHS[found["maths"]])
            case "letter":
                text.append(ACCENTED[found["accent"] + found["letter"]])
            case "tie":
                text.append("\u00a0")
    assert "--" not in latex
    assert "''" not in latex
    return "".join(text)


# Characters with a name of their own here, ASCII with control characters, and letters that LaTeX does not know.
texts = st.text(
    st.one_of(st.sampled_from("±×≥≤Δ²−–—…“”‘’éüčçíï中😀\u200b"), st.characters(max_codepoint=0x7F)), max_size=60
)


@given(texts)
def test_any_text_is_set_as_it_is(text):
    spaced = re.sub(r"\s+", " ", text)
    assert read(plain_to_latex(text, is_code=True)) == spaced


@given(texts)
def test_escaped_text_is_set_as_it_is(text):
    def words(shown):
        return re.sub(r"[\s\u00a0]+", " ", shown).replace("−", "-").strip()

    # Markdown itself replaces NUL; escape() puts a text on one line.
    clean = re.sub(r"[\x00\r]", "", text)
    assert words(read(inline_to_latex(escape(clean)))) == words(clean)


@given(st.characters(exclude_categories=["Cs"]))
def test_every_character_becomes_ascii(character):
    latex = plain_to_latex(character)
    assert latex.isascii()
    assert latex, "nothing is lost"
    assert latex.count("{") - latex.count(r"\{") == latex.count("}") - latex.count(r"\}")


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("50 % of a_b & c", r"50~\% of a\_b \& c"),
        ("-0.1 [-0.25, +0.05]", r"\ensuremath{-}0.1 {[}\ensuremath{-}0.25,~+0.05{]}"),
        ("two-way, 1-2, x -- y", "two-way, 1-2, x -{}- y"),
        (
            "± ≥ Δ × σ",
            r"\ensuremath{\pm} \ensuremath{\geq} \ensuremath{\Delta} \ensuremath{\times} \ensuremath{\sigma}",
        ),
        ("Ångström, Müller, São, Łódź, naïve", r"\r{A}ngstr\"{o}m, M\"{u}ller, S\~{a}o, \L{}\'{o}d\'{z}, na\"{\i}ve"),
        ("中", r"\texttt{\textless{}U+4E2D\textgreater{}}"),
        ("image_to_text_recall_1", r"image\_\allowbreak{}to\_\allowbreak{}text\_\allowbreak{}recall\_\allowbreak{}1"),
    ],
)
def test_text(text, latex):
    assert plain_to_latex(text) == latex


@pytest.mark.parametrize(
    ("markdown", "latex"),
    [
        ("*a* **b** ***c***", r"\emph{a} \textbf{b} \emph{\textbf{c}}"),
        ("`a_b -1`", r"\texttt{a\_b -1}"),
        ("~~red apple~~ `x`", r"\struck{red} \struck{apple} \texttt{x}"),
        ("~~`x`~~", r"\struck{\texttt{x}}"),
        ("[the *page*](https://a.org/b_c?d=50%25&e#f)", r"\href{https://a.org/b\_c?d=50\%25\&e\#f}{the \emph{page}}"),
        ("[runs](#runs)", "{runs}"),
        (
            "![a](figures/b_1.png)",
            r"\raisebox{\dimexpr 1.6ex-\height\relax}{\includegraphics[height=4em]{figures/b_1.png}}",
        ),
        ("![a_b](/etc/hostname)", r"a\_b"),
        (r"\*a\* &lt; <br>", r"{*}a{*} \textless{} \textless{}br\textgreater{}"),
        ("a\nb", "a b"),
        ("", ""),
    ],
)
def test_inline_markdown(markdown, latex):
    assert inline_to_latex(markdown, ["figures/b_1.png"]) == latex


def test_widths_are_those_of_the_text_without_markup():
    assert visible("**a** [b](https://long.example.org) `c_d`") == "a b c_d"
    assert unbroken("**Δ** -0.1 [-0.2, +0.3]") == ["Δ", "−0.1", "[−0.2,\u00a0+0.3]"]
    assert unbroken("image_to_text_recall_1 x") == ["image_", "to_", "text_", "recall_", "1", "x"]
