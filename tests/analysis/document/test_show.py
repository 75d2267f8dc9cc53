"""A document on the terminal."""

from aimv2.analysis.document.model import Document, Paragraph, Section
from aimv2.analysis.document.show import show


def test_a_document_is_printed_and_written_only_where_a_folder_is_named(tmp_path, capsys):
    document = Document("A title", "", "An answer.", [Section("Part", [Paragraph("Some words.")])])
    show(document, None, export=False)
    printed = capsys.readouterr().out
    assert all(words in printed for words in ("A title", "An answer.", "Some words."))
    assert "report:" not in printed
    assert list(tmp_path.iterdir()) == []
    show(document, str(tmp_path / "out"), export=False)
    assert "report: " in capsys.readouterr().out
    assert (tmp_path / "out" / "report.html").exists()
