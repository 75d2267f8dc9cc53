import json
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from aimv2.analysis.document.model import Document, Figure, Paragraph, Section, Table, stacked
from aimv2.analysis.document.write import check_replaceable, own_files, show, write, write_index
from aimv2.base.errors import UsageError


def document(text="text"):
    picture, axis = plt.subplots()
    axis.plot([0, 1], [0, 1])
    figure = Figure("line", "a line", "A line.", picture, pd.DataFrame({"x": [0, 1], "y": [0.5, 1.5]}))
    table = Table(["*a*", "b_c & d"], [["-0.1 [-0.25, +0.05], 1-2", stacked("two", "50 %")]], name="arms")
    details = [Section("d", [Paragraph(text), figure, table])]
    return Document("A title", "q", "An answer.", [Section("s", [])], details=details, exports={"results.csv": b"a\n"})


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


PAGES = {"report.md", "report.html", "report.json", "figures/line.svg"}


def test_all_forms_figures_and_files_are_written(tmp_path):
    path = write(document(), tmp_path / "reports" / "t", export=True)
    assert path == tmp_path / "reports" / "t" / "report.md"
    exported = {"results.csv", "tables/arms.tex", "figures/line.pdf", "figures/line.csv"}
    assert files(path.parent) == PAGES | exported
    assert (path.parent / "figures/line.csv").read_text() == "x,y\n0,0.5\n1,1.5\n"


def test_a_table_in_latex_has_its_text_and_no_markup(tmp_path):
    text = (write(document(), tmp_path / "t", export=True).parent / "tables/arms.tex").read_text()
    assert r"a & b\_c \& d \\" in text
    assert r"−0.1 [−0.25, +0.05], 1-2 & two 50 \% \\" in text
    assert r"\toprule" in text


def test_a_new_report_replaces_the_old_one_and_nothing_else(tmp_path):
    target = tmp_path / "t"
    write(document(), target, export=True)
    mine = {"notes.txt", "report.pdf", "photo.png", "figures/mine.svg", "figures/sub/a.svg", "results.tex"}
    for name in mine:
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_text("mine")
    (target / "link").symlink_to("nowhere")
    write(replace(document("other"), details=[]), target)
    assert files(target) == {"report.md", "report.html", "report.json", *mine}
    assert (target / "link").is_symlink()
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_index_stands_beside_the_reports_and_replaces_none(tmp_path):
    write(document(), tmp_path / "t")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "of_others.svg").write_text("")
    assert write_index(document(), tmp_path) == tmp_path / "index.md"
    pages = {"index.md", "index.html", "index.json"}
    reports = {f"t/{name}" for name in PAGES}
    assert files(tmp_path) == {*pages, "figures/line.svg", "figures/of_others.svg", *reports}
    write_index(replace(document(), details=[]), tmp_path)
    assert files(tmp_path) == {*pages, "figures/of_others.svg", *reports}, "its own old figure is gone"


def test_an_index_replaces_no_file_that_is_not_its_own(tmp_path):
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(UsageError, match=r"index\.html is not a file of an index of reports"):
        write_index(document(), tmp_path)
    assert files(tmp_path) == {"index.html"}
    assert (tmp_path / "index.html").read_text() == "mine"


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname"])
def test_a_page_of_others_lists_no_file_outside_of_its_folder(tmp_path, name):
    (tmp_path / "report.json").write_text(json.dumps({"files": [name, "inside", 3]}))
    assert own_files(tmp_path, "report") == {"inside"}


def test_a_report_takes_the_place_of_no_file_and_of_no_records(tmp_path):
    (tmp_path / "runs.csv").write_text("mine")
    for refused in (lambda path: write(document(), path), check_replaceable):
        with pytest.raises(UsageError, match=r"runs\.csv is a file, and a report is a folder"):
            refused(tmp_path / "runs.csv")
    assert (tmp_path / "runs.csv").read_text() == "mine"
    with pytest.raises(UsageError, match="has files and no report"):
        check_replaceable(tmp_path)
    write(replace(document(), files={"records.parquet": b""}), tmp_path / "t")
    with pytest.raises(UsageError, match=r"t is a report with records\.parquet, which would be lost"):
        check_replaceable(tmp_path / "t")
    (tmp_path / "blocked").write_text("")
    with pytest.raises(UsageError, match=r"the report folder .*blocked/t cannot be written"):
        write(document(), tmp_path / "blocked" / "t")


def test_a_document_is_printed_and_written_only_where_a_folder_is_named(tmp_path, capsys):
    show(document("Some words."), None, export=False)
    printed = capsys.readouterr().out
    assert all(words in printed for words in ("A title", "An answer.", "Some words."))
    assert "report:" not in printed
    show(document(), str(tmp_path / "out"), export=False)
    assert "report: " in capsys.readouterr().out
    assert files(tmp_path / "out") == PAGES
