import matplotlib.pyplot as plt
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from aimv2.analysis.document.model import Document, Figure, Paragraph, Section, code_span, walk


def figure(name):
    picture = plt.figure()
    plt.close(picture)
    return Figure(name, "alt", "caption", picture, pd.DataFrame())


def test_blocks_are_walked_in_order_with_those_in_sections():
    inner = Section("inner", [Paragraph("2")])
    blocks = [Section("outer", [Paragraph("1"), inner]), Paragraph("3")]
    assert [getattr(block, "title", None) or block.text for block in walk(blocks)] == ["outer", "1", "inner", "2", "3"]


def test_figures_are_listed_once_with_the_lead_first():
    lead = figure("lead")
    document = Document("t", "q", "c", [Section("s", [figure("one"), lead])], lead=lead)
    assert [one.name for one in document.figures()] == ["lead", "one"]


@given(st.text("`a \\\n*", min_size=1, max_size=12))
def test_a_code_span_shows_any_text_and_nothing_leaves_it(text):
    """By another implementation of Markdown's rules."""
    (code,) = MarkdownIt("commonmark").parseInline(f"x{code_span(text)}x")[0].children[1:-1]
    assert code.type == "code_inline"
    assert code.content == text.replace("\n", " ")
