from markdown_it import MarkdownIt

from analysis.document.markdown import to_markdown
from analysis.document.model import Bullets, Cell, Code, Document, Paragraph, Section, Table

DOCUMENT = Document(
    title="title",
    question="Why?",
    conclusion="Because.",
    introduction=[Paragraph("Source: a table.")],
    sections=[
        Section(
            "One",
            [
                Paragraph("text"),
                Table(["a", "b"], [["1", Cell(("2", "3"), "a note", 2.0)]], name="numbers", caption="below"),
                Section("Inner", [Bullets(["x", "y"]), Code("k: v", "yaml")]),
            ],
        )
    ],
)


def test_markdown_is_what_was_said():
    assert to_markdown(DOCUMENT) == (
        "# title\n\nWhy?\n\n> Because.\n\nSource: a table.\n\n## One\n\ntext\n\n"
        "| a | b |\n| --- | --- |\n| 1 | 2<br>3 |\n\nbelow\n\n"
        "### Inner\n\n- x\n- y\n\n```yaml\nk: v\n```\n"
    )


def test_markdown_is_a_table_to_another_implementation():
    html = MarkdownIt("commonmark").enable("table").render(to_markdown(DOCUMENT))
    assert html.count("<th>") == 2
    assert html.count("<td>") == 2
