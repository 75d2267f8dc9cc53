"""The tables of documents as LaTeX: what they contain, and that they compile where a LaTeX is installed."""

import shutil
import string
import subprocess

import pytest

from aimv2.analysis.document.latex import MATHS, tables_of, to_latex
from aimv2.analysis.document.model import Cell, Document, Section, Table
from aimv2.base.errors import escape
from tests.helpers.programs import skip_without

NASTY = escape(" ".join(f"{string.printable}{''.join(MATHS)}éüčçïåñőğí"))
PROSE = "a sentence that is rather long for a column of a table, with *emphasis* and `some/path_to/a_file.yaml`. "
INTERVAL = "+0.123 [-0.456, +0.789]"


def tables_in(*tables):
    return tables_of(Document("t", "", "", [Section("s", list(tables))]))


def test_any_table_compiles_in_a_paper(tmp_path):
    pdflatex, tectonic = shutil.which("pdflatex"), shutil.which("tectonic")
    skip_without(pdflatex or tectonic, "neither pdflatex (Debian: texlive-latex-recommended) nor tectonic")
    texts = tables_in(
        Table(["arm", "n"], [["[a] *b*", "1"], [Cell(("two", "lines")), "* 2"]], "arms", "The arms: `x_1` & more."),
        Table(["claim", "verdict"], [[PROSE * 3, Cell((PROSE * 4, PROSE * 9))]], "prose"),
        Table([f"arm_{i}" for i in range(8)], [[Cell((INTERVAL, "Δ " + INTERVAL))] * 8] * 9, "wide"),
        Table(["image", "text"], [["![](one.png)", f"~~{PROSE}~~ [link](https://a.org/b_c?d=%7B&d#e~f$g)"]], "image"),
        Table(["none"], [], "none"),
        Table([NASTY] * 2, [[NASTY] * 2] * 3, "nasty", NASTY),
    )
    lines = [
        r"\documentclass{article}\usepackage{booktabs,tabularx}\begin{document}",
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
    caption, _, start, top, head, middle, one, two, bottom, end = text.splitlines()
    assert caption == "% The `arms`."
    assert start == r"\begin{tabularx}{\linewidth}{@{}>{\raggedright\arraybackslash}Xl@{}}"
    assert [top, middle, bottom, end] == [r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabularx}"]
    assert [head, one, two] == [r"arm & n \\", r"{[}a{]} b & 1 \\", r"two \newline lines & {*} 2 \\"]


def test_columns_without_names_have_no_head():
    assert r"\midrule" not in tables_in(Table(["", ""], [["a", "b"]], "t"))["tables/t.tex"]


@pytest.mark.parametrize(
    ("markdown", "latex"),
    [
        ("50 % of a_b & c", r"50 \% of a\_b \& c"),
        ("-0.1 [-0.25, +0.05], two-way, 1-2", "$-$0.1 {[}$-$0.25, +0.05{]}, two-way, 1-2"),
        ("± Δ² Müller", r"$\pm$ $\Delta$$^2$ Müller"),
        ("*a* **b** `c_1` ~~red apple~~", r"a b c\_1 red apple"),
        ("[the *page*](https://a.org/b_c) ![alt](/etc/passwd)", "the page alt"),
        (r"\*a\* &lt; <br>", r"{*}a{*} \textless{} \textless{}br\textgreater{}"),
        ("a\nb", "a b"),
    ],
)
def test_inline_markdown_becomes_its_text(markdown, latex):
    assert to_latex(markdown) == latex
