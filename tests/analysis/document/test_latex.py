"""Documents as LaTeX: what they contain, and that they compile where a LaTeX is installed."""

import re
import shutil
import string
import subprocess

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from analysis.document.latex import tables_of, to_latex
from analysis.document.latex_text import MATHS, SYMBOLS
from analysis.document.model import Bullets, Cell, Code, Document, Figure, Paragraph, Quote, Section, Table, escape
from tests.helpers.programs import skip_without

CHARACTERS = f"{string.printable}{''.join([*MATHS, *SYMBOLS])}éüčçïåñőğ中😀"
NASTY = " ".join(re.findall(".{1,8}", CHARACTERS, re.S))
PROSE = "a sentence that is rather long for a column of a table, with *emphasis* and `some/path_to/a_file.yaml`. "
INTERVAL = "+0.123 [-0.456, +0.789]"


def tables():
    """Return tables that a report may have: small, of prose, wide, too wide, empty, without columns' names."""
    named = Table(["arm", "n"], [["[a] *b*", "1"], [Cell(("two", "lines")), "* 2"]], "arms", "The arms: `x_1` & more.")
    prose = Table(["claim", "verdict"], [[PROSE * 3, Cell((PROSE * 4, PROSE * 9))]], "prose")
    wide = Table([f"arm_{i}" for i in range(8)], [[Cell((INTERVAL, "Δ " + INTERVAL))] * 8] * 40, "wide", "Wide.")
    too_wide = Table(["x" * 15] * 30, [["y" * 15] * 30], "too_wide")
    pictures = Table(["image", "text"], [["![](figures/one.png)", f"~~{PROSE}~~"]])
    return [named, prose, wide, too_wide, pictures, Table(["none"], [], "none"), Table(["", ""], [["a", "b"]])]


@pytest.fixture
def document(tmp_path):
    picture, axes = plt.subplots(figsize=(2, 1))
    axes.plot([1, 2])
    (tmp_path / "figures").mkdir()
    picture.savefig(tmp_path / "figures" / "one.pdf")
    picture.savefig(tmp_path / "figures" / "one.png", dpi=30)
    plt.close(picture)
    figure = Figure("one", "a line", f"A line: {escape(NASTY)}", picture, pd.DataFrame())
    blocks = [
        Paragraph(escape(NASTY)),
        Quote(f"**{escape(NASTY)}**"),
        Bullets([escape(NASTY), "[link](https://example.org/a_b?c=%7B&d#e~f$g)", "[1]", "* 2"]),
        Bullets([]),
        Code(f"def f(x):\n    return '{NASTY}'\n\n# \\end{{verbatim}}", "python"),
        Section(
            f"Inner {escape(NASTY)}", [Table([escape(NASTY)] * 2, [[escape(NASTY)] * 2] * 3, "nasty", escape(NASTY))]
        ),
        *tables(),
    ]
    return Document(
        title=escape(NASTY),
        question=f"*{escape(NASTY)}*",
        conclusion="**Yes**, by 5 %.",
        sections=[Section("All", blocks, is_folded=True)],
        lead=figure,
        introduction=[Paragraph("The source is a paper."), Table(["a"], [["b"]], "first")],
        files={"figures/one.png": (tmp_path / "figures" / "one.png").read_bytes()},
    )


def compiled(tex, folder):
    """Compile a file; return what the engine printed. Skips if there is no LaTeX."""
    pdflatex, tectonic = shutil.which("pdflatex"), shutil.which("tectonic")
    skip_without(pdflatex or tectonic, "neither pdflatex (Debian: texlive-latex-recommended) nor tectonic")
    (folder / "report.tex").write_text(tex)
    command = [pdflatex, "-interaction=nonstopmode", "-halt-on-error"] if pdflatex else [tectonic, "--keep-logs"]
    done = subprocess.run([*command, "report.tex"], cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def test_any_document_compiles(document, tmp_path):
    log = compiled(to_latex(document), tmp_path)
    too_wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)", log)]
    assert max(too_wide, default=0) < 120, "only the table of 30 columns exceeds its cells"
    assert (tmp_path / "report.pdf").stat().st_size > 10_000


def test_tables_compile_in_a_paper(document, tmp_path):
    files = tables_of(document)
    assert set(files) == {
        f"tables/{name}.tex" for name in ("first", "arms", "prose", "wide", "too_wide", "none", "nasty")
    }
    (tmp_path / "tables").mkdir()
    for path, text in files.items():
        (tmp_path / path).write_text(text)
    struck = next(line for line in files["tables/arms.tex"].splitlines() if "DeclareRobustCommand" in line)
    lines = [
        r"\documentclass[twocolumn]{article}",
        r"\usepackage{amssymb,array,booktabs,graphicx,hyperref}",
        struck.removeprefix("% "),
        r"\begin{document}",
        *(rf"\begin{{table*}}\caption{{One.}}\input{{{path}}}\end{{table*}}" for path in files),
        r"Text.\clearpage\end{document}",
    ]
    compiled("\n".join(lines), tmp_path)


def test_table_has_the_rows_the_caption_and_the_label():
    table = tables()[0]
    tex = to_latex(Document("t", "", "", [Section("s", [table])]))
    body = tex[tex.index(r"\endfoot") : tex.index(r"\end{longtable}")].splitlines()[1:]
    assert body == [
        r"{[}a{]} \emph{b} & 1 \\ \addlinespace[2pt]",
        r"two \newline lines & {*} 2 \\ \addlinespace[2pt]",
    ]
    assert r"\caption{The arms: \texttt{x\_1} \& more.}\label{tab:arms}\\" in tex
    assert tex.count(r"\textbf{arm} & \textbf{n} \\") == 2, "on the first page, and on those after it"
    assert "landscape" not in tex.partition(r"\begin{document}")[2]


def test_wide_tables_lie_on_their_side_and_fill_the_line():
    table = tables()[2]
    tex = to_latex(Document("t", "", "", [Section("s", [table])]))
    assert tex.count(r"\begin{landscape}") == tex.count(r"\end{landscape}") == 1
    for text in (tex, tables_of(Document("t", "", "", [Section("s", [table])]))["tables/wide.tex"]):
        shares = [float(share) for share in re.findall(r"dimexpr ([\d.]+)\\linewidth", text)]
        assert len(shares) == 8
        assert sum(shares) <= 1.0005


def test_only_images_of_the_document_are_included():
    table = Table(["![t](/etc/passwd)"], [["![one](figures/one.png) ![a_b](/etc/hostname)"]], "t", "![c](../x)")
    given = Document("t", "", "![q](x)", [Section("s", [table])], files={"figures/one.png": b""})
    for tex in (to_latex(given), tables_of(given)["tables/t.tex"]):
        assert re.findall(r"\\includegraphics\[.*?\]\{(.*?)\}", tex) == ["figures/one.png"]
        assert r"a\_b" in tex


def test_heading_goes_to_the_page_of_its_wide_table():
    wide, small = tables()[2], tables()[0]
    tex = to_latex(Document("t", "", "", [Section("first", [wide]), Section("second", [small, wide])]))
    assert "\\begin{landscape}\n\\section{first}\n" in tex
    assert "\\section{second}\n\n{" in tex


def test_text_that_is_longer_gets_more_room():
    tex = tables_of(Document("t", "", "", [Section("s", [tables()[1]])]))["tables/prose.tex"]
    claim, verdict = (float(share) for share in re.findall(r"dimexpr ([\d.]+)\\linewidth", tex))
    assert 1.5 * claim < verdict < 3 * claim
    assert claim + verdict == pytest.approx(1, abs=1e-3)


def test_columns_without_names_have_no_head():
    tex = to_latex(Document("t", "", "", [Section("s", [tables()[-1]])]))
    assert r"\midrule" not in tex
    assert r"a & b \\" in tex


def test_document_is_in_order(document):
    tex = to_latex(document)
    marks = [
        r"\maketitle",
        r"\begin{quote}",
        "figures/one.pdf",
        "The source",
        r"\section{All}",
        r"\subsection{Inner",
        "tab:nasty",
    ]
    body = tex[tex.index(r"\begin{document}") :]
    assert sorted(map(body.index, marks)) == [body.index(mark) for mark in marks]
    assert r"\label{fig:one}" in tex
    assert to_latex(document) == tex
