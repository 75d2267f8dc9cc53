import json
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from aimv2.analysis.document.model import Document, Figure, Paragraph, Section, Table
from aimv2.analysis.document.write import check_replaceable, own_files, write, write_index
from aimv2.base.errors import UsageError


def document(text="text"):
    picture, axis = plt.subplots()
    axis.plot([0, 1], [0, 1])
    figure = Figure("line", "a line", "A line.", picture, pd.DataFrame({"x": [0, 1], "y": [0.5, 1.5]}))
    table = Table(["a"], [["b"]], name="arms")
    details = [Section("d", [Paragraph(text), figure, table])]
    return Document("t", "q", "c", [Section("s", [])], details=details, exports={"results.csv": b"a\n1\n"})


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_forms_figures_and_files_are_written(tmp_path):
    path = write(document(), tmp_path / "reports" / "t", export=True)
    assert path == tmp_path / "reports" / "t" / "report.md"
    forms = {"details.md", *(f"report.{form}" for form in ("md", "html", "json"))}
    assert set(files(path.parent)) >= {
        *forms,
        "results.csv",
        "tables/arms.tex",
        *(f"figures/line.{form}" for form in ("svg", "pdf", "csv")),
    }
    assert (path.parent / "figures/line.csv").read_text() == "x,y\n0,0.5\n1,1.5\n"


def test_index_stands_beside_the_reports_and_replaces_none(tmp_path):
    index = replace(document(), sections=document().details, details=[])
    write(document(), tmp_path / "t")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "of_others.svg").write_text("")
    assert write_index(index, tmp_path) == tmp_path / "index.md"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"t", "index.md", "index.html", "index.json", "figures"}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"line.svg", "of_others.svg"}
    write_index(replace(index, sections=[]), tmp_path)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"of_others.svg"}, "its own old figure is gone"


def test_a_new_report_replaces_the_old_one_and_nothing_else(tmp_path):
    target = tmp_path / "t"
    write(document(), target, export=True)
    (target / "notes.txt").write_text("mine")
    (target / "figures" / "mine.svg").write_text("")
    write(replace(document("other"), details=[]), target)
    assert set(files(target)) == {"report.md", "report.html", "report.json", "notes.txt", "figures/mine.svg"}
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_a_report_takes_the_place_of_no_file_and_of_no_records(tmp_path):
    (tmp_path / "runs.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"runs\.csv is a file, and a report is a folder"):
        write(document(), tmp_path / "runs.csv")
    with pytest.raises(UsageError, match=r"runs\.csv is a file"):
        check_replaceable(tmp_path / "runs.csv")
    assert (tmp_path / "runs.csv").read_text() == "mine"
    write(replace(document(), files={"records.parquet": b""}), tmp_path / "t")
    with pytest.raises(UsageError, match=r"t is a report with records\.parquet, which would be lost"):
        check_replaceable(tmp_path / "t")


def test_an_index_replaces_no_file_that_is_not_its_own(tmp_path):
    index = replace(document(), sections=document().details, details=[])
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(UsageError, match=r"index\.html is not a file of an index of reports"):
        write_index(index, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"index.html"}
    assert (tmp_path / "index.html").read_text() == "mine"


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname"])
def test_a_page_of_others_lists_no_file_outside_of_its_folder(tmp_path, name):
    (tmp_path / "report.json").write_text(json.dumps({"files": [name, "inside", 3]}))
    assert own_files(tmp_path / "report.json") == {"inside"}


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "blocked").write_text("")
    with pytest.raises(UsageError, match=r"the report folder .*blocked/t cannot be written"):
        write(document(), tmp_path / "blocked" / "t")
