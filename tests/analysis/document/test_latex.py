"""The tables of documents as LaTeX: what they contain, and that they compile where a LaTeX is installed."""

import re
import shutil
import string
import subprocess

import matplotlib.pyplot as plt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.base.markdown import escape
from analysis.document.latex import KNOWN, MATHS, tables_of, to_latex
from analysis.document.model import Cell, Document, Section, Table
from tests.helpers.programs import skip_without

CHARACTERS = f"{string.printable}{''.join([*MATHS, *sorted(KNOWN)])}éüčçïåñőğí中😀"
NASTY = escape(" ".join(re.findall(".{1,8}", CHARACTERS, re.S)))
PROSE = "a sentence that is rather long for a column of a table, with *emphasis* and `some/path_to/a_file.yaml`. "
INTERVAL = "+0.123 [-0.456, +0.789]"
MEANING = {r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textless{}": "<",
           r"\textgreater{}": ">", r"\textbar{}": "|", r"{\char34}": '"', r"{\char96}": "`", "{[}": "[", "{]}": "]",
           "{*}": "*", "~": "\u00a0", r"\ensuremath{-}": "-", r"\allowbreak{}": "", "{}": ""}  # fmt: skip


def tables_in(*tables, files=None):
    return tables_of(Document("t", "", "", [Section("s", list(tables))], files=files or {}))


def read(latex):
    """Return the text that LaTeX would set, for texts of ASCII."""
    pattern = "|".join(map(re.escape, sorted(MEANING, key=len, reverse=True)))
    return re.sub(rf"{pattern}|\\([{{}}%#&$_])", lambda found: found[1] or MEANING[found[0]], latex)


def test_any_table_compiles_in_a_paper(tmp_path):
    pdflatex, tectonic = shutil.which("pdflatex"), shutil.which("tectonic")
    skip_without(pdflatex or tectonic, "neither pdflatex (Debian: texlive-latex-recommended) nor tectonic")
    figure, _ = plt.subplots(figsize=(2, 1))
    figure.savefig(tmp_path / "one.png", dpi=30)
    plt.close(figure)
    texts = tables_in(
        Table(["arm", "n"], [["[a] *b*", "1"], [Cell(("two", "lines")), "* 2"]], "arms", "The arms: `x_1` & more."),
        Table(["claim", "verdict"], [[PROSE * 3, Cell((PROSE * 4, PROSE * 9))]], "prose"),
        Table([f"arm_{i}" for i in range(8)], [[Cell((INTERVAL, "Δ " + INTERVAL))] * 8] * 9, "wide"),
        Table(["image", "text"], [["![](one.png)", f"~~{PROSE}~~ [link](https://a.org/b_c?d=%7B&d#e~f$g)"]], "image"),
        Table(["none"], [], "none"),
        Table(["", ""], [["a", "b"]], "unnamed"),
        Table([NASTY] * 2, [[NASTY] * 2] * 3, "nasty", NASTY),
        files={"one.png": b""},
    )
    lines = [
        r"\documentclass{article}\usepackage{booktabs,graphicx,hyperref,tabularx}\begin{document}",
        *(rf"\begin{{table*}}\caption{{One.}}{text}\end{{table*}}" for text in texts.values()),
        r"Text.\clearpage\end{document}",
    ]
    (tmp_path / "paper.tex").write_text("\n".join(lines))
    command = [pdflatex, "-interaction=nonstopmode", "-halt-on-error"] if pdflatex else [tectonic]
    done = subprocess.run([*command, "paper.tex"], cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000


def test_table_has_its_rows_and_lets_long_columns_share_the_line():
    table = Table(["arm", "n"], [["[a] *b*", "1"], [Cell(("two", "lines")), "* 2"]], "arms", "The `arms`.")
    (path, text), *others = tables_in(table, Table(["unnamed"], [["x"]])).items()
    assert (path, others) == ("tables/arms.tex", [])
    caption, *_, start, top, head, middle, one, two, bottom, end = text.splitlines()
    assert caption == "% The `arms`."
    assert start == r"\begin{tabularx}{\linewidth}{@{}>{\raggedright\arraybackslash}Xl@{}}"
    assert [top, middle, bottom, end] == [r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabularx}"]
    assert [head, one, two] == [
        r"\textbf{arm} & \textbf{n} \\",
        r"{[}a{]} \emph{b} & 1 \\",
        r"two \newline lines & {*} 2 \\",
    ]


def test_columns_without_names_have_no_head():
    assert r"\midrule" not in tables_in(Table(["", ""], [["a", "b"]], "t"))["tables/t.tex"]


def test_only_images_of_the_document_are_included():
    table = Table(["![t](/etc/passwd)"], [["![one](figures/one.png) ![a_b](/etc/hostname)"]], "t", "![c](../x)")
    (text,) = tables_in(table, files={"figures/one.png": b""}).values()
    assert re.findall(r"\\includegraphics\[.*?\]\{(.*?)\}", text) == ["figures/one.png"]
    assert r"a\_b" in text


@given(st.text(st.characters(max_codepoint=0x7F), max_size=60))
def test_escaped_text_is_set_as_it_is(text):
    def words(shown):
        return re.sub(r"[\s\u00a0]+", " ", shown).strip()

    clean = re.sub(r"[\x00-\x08\x0e-\x1f\x7f\r]", "", text)  # Markdown itself replaces NUL
    latex = to_latex(escape(clean))
    assert words(read(latex)) == words(clean)
    assert "--" not in latex
    assert "''" not in latex


@pytest.mark.parametrize(
    ("markdown", "latex"),
    [
        ("50 % of a_b & c", r"50~\% of a\_b \& c"),
        ("-0.1 [-0.25, +0.05]", r"\ensuremath{-}0.1 {[}\ensuremath{-}0.25, +0.05{]}"),
        ("two-way, 1-2, x -- y", "two-way, 1-2, x -{}- y"),
        ("± Δ² Müller, Łódź", r"\ensuremath{\pm} \ensuremath{\Delta}\ensuremath{^2} Müller, Łódź"),
        ("中", r"\texttt{\textless{}U+4E2D\textgreater{}}"),
        ("image_to_text_recall_1", r"image\_\allowbreak{}to\_\allowbreak{}text\_\allowbreak{}recall\_\allowbreak{}1"),
        ("*a* **b** ***c***", r"\emph{a} \textbf{b} \emph{\textbf{c}}"),
        ("`a_b -1`", r"\texttt{a\_b -1}"),
        ("~~red apple~~ `x`", r"\struck{red} \struck{apple} \texttt{x}"),
        ("[the *page*](https://a.org/b_c?d=50%25&e#f)", r"\href{https://a.org/b\_c?d=50\%25\&e\#f}{the \emph{page}}"),
        ("[runs](#runs)", "{runs}"),
        (r"\*a\* &lt; <br>", r"{*}a{*} \textless{} \textless{}br\textgreater{}"),
        ("a\nb", "a b"),
    ],
)
def test_inline_markdown(markdown, latex):
    assert to_latex(markdown) == latex
