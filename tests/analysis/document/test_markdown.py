from markdown_it import MarkdownIt

from aimv2.analysis.document.markdown import to_details, to_markdown
from aimv2.analysis.document.model import Bullets, Cell, Chip, Code, Document, Paragraph, Section, Table

DOCUMENT = Document(
    title="title",
    subtitle="[Reports](../index.md)",
    answer="Because.",
    chips=[Chip("a claim", "supported"), Chip("another", "undecided")],
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
    details=[Section("Two", [Paragraph("more")])],
)


def test_markdown_is_what_was_said():
    assert to_markdown(DOCUMENT) == (
        "[Reports](../index.md)\n\n# title\n\n> Because.\n\n🟩 a claim: **supported** · 🟨 another: **undecided**\n\n"
        "## One\n\ntext\n\n"
        "| a | b |\n| --- | --- |\n| 1 | 2<br>3 |\n\nbelow\n\n"
        "### Inner\n\n- x\n- y\n\n```yaml\nk: v\n```\n\nThe rest is in [the details](details.md).\n"
    )


def test_details_are_a_page_of_their_own():
    assert to_details(DOCUMENT) == ("# Details: title\n\nThe answer is in [the report](report.md).\n\n## Two\n\nmore\n")


def test_markdown_is_a_table_to_another_implementation():
    html = MarkdownIt("commonmark").enable("table").render(to_markdown(DOCUMENT))
    assert html.count("<th>") == 2
    assert html.count("<td>") == 2
