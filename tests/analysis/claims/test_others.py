"""Records of others stand apart: in a section and a page of their own, and in no verdict of ours."""

import shutil
from dataclasses import replace

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.analysis import report
from aimv2.analysis.claims.index import index_document
from aimv2.analysis.claims.others import others_document, others_in
from aimv2.analysis.claims.page import claims_document
from aimv2.analysis.document.markdown import to_markdown
from aimv2.analysis.evidence.others import check_others, keep
from aimv2.analysis.evidence.recorded import FILE
from aimv2.analysis.evidence.records import Records, pack
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.report import portable
from aimv2.base.archive import Archive, write_sums, write_zip
from aimv2.base.files import read_json


@pytest.fixture(scope="module")
def packed(request_of, evidence):
    return pack(Records(portable(request_of), evidence, Look(1)))


@pytest.fixture
def added(packed, tmp_path):
    records = check_others(packed, STUDIES, "a")
    name = keep(Archive(tmp_path, "", {}), records, packed, tmp_path / "records", "2026-02-03")
    return tmp_path / "records" / name


@pytest.fixture
def archive(packed, tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / FILE).write_bytes(packed)
    write_sums(folder)
    write_zip(folder, tmp_path / "archive.zip", "study")
    return tmp_path / "archive.zip"


@pytest.mark.exhaustive
def test_pages_have_a_section_of_their_own_and_the_same_verdicts_as_without(added, tmp_path):
    for make, link in ((index_document, "(others/"), (claims_document, "(../others/")):
        alone, beside = make(tmp_path / "reports"), make(tmp_path / "reports", added.parent)
        titles = [section.title for section in beside.sections]
        assert "Records of others" in titles
        rest = [section for section in beside.sections if section.title != "Records of others"]
        assert to_markdown(replace(beside, sections=rest)) == to_markdown(alone)
        assert beside.numbers == alone.numbers
        text = to_markdown(beside)
        assert f"[{added.name}]{link}{added.name}/report.md) | not replayed |" in text


@pytest.mark.exhaustive
def test_a_report_on_others_says_so(added, tmp_path):
    (others,) = others_in(added.parent)
    page = others_document(others, tmp_path / "reports")
    assert page.subtitle.startswith("[Reports](../../index.md) · prefix_ratio")
    assert page.subtitle.endswith("**records of others**, not replayed")


@pytest.mark.exhaustive
def test_add_checks_copies_and_writes_the_pages(archive, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert report.main(["add", str(archive)]) == 0
    (folder,) = (tmp_path / "records").iterdir()
    written = capsys.readouterr().out.split()
    assert written[0] == f"records/{folder.name}"
    assert f"others/{folder.name}/report.md" in (tmp_path / "reports/index.md").read_text()
    assert (tmp_path / "reports/others" / folder.name / "report.html").exists()
    assert set(read_json(tmp_path / "reports/index.json")["numbers"]["claims"].values()) <= {
        "not run yet", "not testable", "beyond reach"
    }, "no verdict is of these"  # fmt: skip
    assert report.main(["all", "--from-records", "reports_dir=reports"]) == 0
    assert report.main(["all", "--check", "reports_dir=reports"]) == 0
    assert report.main(["add", str(archive)]) == 2
    assert "has these records already" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["add"], ["add", "a", "b"]])
def test_add_takes_one_archive(arguments, capsys):
    assert report.main(arguments) == 2
    assert "add which archive? Name one" in capsys.readouterr().err


def test_a_refused_archive_leaves_nothing(packed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / FILE).write_bytes(packed[: len(packed) // 2])
    write_sums(folder)
    assert report.main(["add", "archive"]) == 2
    shown = capsys.readouterr().err
    assert shown == "error: archive/records.parquet is not a file of records\n"
    shutil.rmtree(folder)
    assert list(tmp_path.iterdir()) == []
