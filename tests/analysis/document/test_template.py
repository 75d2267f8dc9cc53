"""Templates as blocks; those of the package are tested where they are used."""

from aimv2.analysis.document.model import Bullets, Paragraph, Section, Table
from aimv2.analysis.document.template import _parsed, one_line


def test_parts_become_blocks_and_line_breaks_spaces():
    table = Table(["a"])
    text = "\n\nOne\nsentence,  and\n  a second.\n\n \n## Title of `x`\n\n{rows}\n\n- one\n  item\n- two - three\n"
    assert list(_parsed(text, {"rows": table})) == [
        Paragraph("One sentence, and a second."),
        Section("Title of `x`", []),
        table,
        Bullets(["one item", "two - three"]),
    ]


def test_spaces_that_must_not_break_stay():
    assert one_line("  5\u00a0%\n of  it ") == "5\u00a0% of it"
