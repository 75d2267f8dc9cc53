"""Templates as blocks; those of the package are tested where they are used."""

from jinja2 import DictLoader

from aimv2.analysis.document.model import Bullets, Paragraph
from aimv2.analysis.document.template import ENVIRONMENT, blocks_of


def test_parts_become_blocks_and_line_breaks_spaces(monkeypatch):
    text = "\n\nOne\nsentence,  and\n  5\u00a0% of *{{ it | md }}*.\n\n \n- one\n  item\n- two - three\n"
    monkeypatch.setattr(ENVIRONMENT, "loader", DictLoader({"a.md.j2": text}))
    assert blocks_of("a", it="<b>") == [
        Paragraph("One sentence, and 5\u00a0% of *\\<b\\>*."),
        Bullets(["one item", "two - three"]),
    ]
