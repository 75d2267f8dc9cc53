"""Templates as blocks; those of the package are tested where they are used."""

from aimv2.analysis.document.model import Bullets, Paragraph
from aimv2.analysis.document.template import parsed


def test_parts_become_blocks_and_line_breaks_spaces():
    text = "\n\nOne\nsentence,  and\n  5\u00a0%.\n\n \n- one\n  item\n- two - three\n"
    assert parsed(text) == [Paragraph("One sentence, and 5\u00a0%."), Bullets(["one item", "two - three"])]
