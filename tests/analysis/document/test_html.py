"""The page as HTML; what a reader does with it is in test_browser.py."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
from matplotlib.figure import Figure as Picture

from aimv2.analysis.document.html import inline_svg, to_html
from aimv2.analysis.document.model import Bullets, Cell, Code, Document, Figure, Paragraph, Section, Table
from aimv2.analysis.document.style import GRID, INK, PAPER, SOFT
from aimv2.base.errors import escape

SVG = (
    '<?xml version="1.0"?>\n<svg width="4pt" height="2pt" viewBox="0 0 4 2">'
    '<g id="clip0" style="fill: #1b1e23"/><use href="#clip0"/></svg>'
)
VOID = {"meta", "img", "br", "link", "input"}


def document(*blocks, **parts):
    return Document("A title", "A question?", "A *conclusion*.", [Section("A section", list(blocks))], **parts)


def figure():
    return Figure("a", 'what "it" shows', "A caption.", Picture(), pd.DataFrame())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/a.svg").write_text(SVG)
    return tmp_path


class Checker(HTMLParser):
    """Collects ids and references, and checks that tags are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.targets = [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.targets += [values["href"][1:]] if values.get("href", "").startswith("#") else []
        self.targets += [values["aria-describedby"]] if "aria-describedby" in values else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_every_block_is_well_formed_and_every_reference_has_its_target(folder):
    numbers = Table(["arm", "loss"], [["one", Cell(("1", "2"), "a <note>", 1.0)]], caption="Numbers.")
    blocks = [Paragraph("*text*"), Bullets(["one", "two"]), Code("a < b"), figure(), figure(), numbers]
    page = to_html(document(*blocks, Section("More", [Paragraph("folded")], is_folded=True), lead=figure()), folder)
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids), "a figure that is shown twice has ids of its own"
    assert set(checker.targets) <= set(checker.ids)
    assert "a &lt; b" in page
    assert "a &lt;note&gt;" in page


def test_conclusion_and_lead_come_before_the_sections(folder):
    page = to_html(document(Paragraph("later"), lead=figure()), folder)
    assert page.index("A <em>conclusion</em>.") < page.index("<svg") < page.index("later")
    assert '<a href="#a-section">A section</a>' in page


def test_figure_has_its_text_for_screen_readers_its_own_ids_and_the_colours_of_the_page(folder):
    page = to_html(document(figure()), folder)
    svg = re.search("<svg.*?</svg>", page, re.S)[0]
    assert svg.startswith('<svg role="img" aria-label="what &quot;it&quot; shows"')
    assert '<g id="f1-clip0" style="fill: currentColor"/><use href="#f1-clip0"/>' in svg
    assert 'width="4pt"' not in svg
    assert "<figcaption>A caption.</figcaption>" in page


def test_images_are_inlined_from_the_document_and_no_other_file_is_read(folder):
    (folder / "b.png").write_bytes(b"of this machine")
    table = Table(["a", "b"], [["![an <image>](figures/c.png)", f"![<here>](b.png) ![there]({folder / 'b.png'})"]])
    page = to_html(document(table, files={"figures/c.png": b"other"}), folder)
    assert f'<img src="data:image/png;base64,{base64.b64encode(b"other").decode()}" alt="an &lt;image&gt;">' in page
    assert ">&lt;here&gt; there</td>" in page
    assert page.count("<img") == 1


def test_title_of_the_window_has_no_markup(folder):
    page = to_html(replace(document(), title=r"*One* \_ two & `three`"), folder)
    assert "<title>One _ two &amp; three</title>" in page


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "[a](javascript:alert(1))", "![x](y)<img src=x>"])
def test_no_text_becomes_markup(folder, text):
    escaped = escape(text)
    table = Table([escaped], [[Cell((escaped,), note=text)]], caption=escaped)
    doc = document(Paragraph(escaped), Code(text), Bullets([escaped]), table)
    page = to_html(replace(doc, title=escaped, subtitle=escaped, answer=escaped), folder)
    body = page[page.index("<body>") : page.rindex("<script>")]
    assert "<script" not in body
    assert "<img" not in body
    assert 'href="javascript' not in body


@pytest.mark.parametrize(
    "interval", ["Δ +0.1 [-0.2, +0.4]", "-3,415 [-3,749, -3,080]", "5.89e+11 [5.28e+11, 6.27e+11]", "[0, 1]"]
)
def test_intervals_and_units_do_not_wrap(folder, interval):
    page = to_html(document(Paragraph(f"It is {interval} at 95 %")), folder)
    assert f'<p>It is <span class="number">{interval}</span> at 95\u00a0%</p>' in page


def test_values_are_for_sorting_if_they_are_finite(folder):
    rows = [[Cell(("a",), value=0.1)], [Cell(("b",), value=float("nan"))], [Cell(("c",))]]
    page = to_html(document(Table(["x", "y"], [["", *row] for row in rows])), folder)
    assert re.findall(r"<td[^>]*>", page) == ['<td data-value="0.1">', "<td>", "<td>"]


def test_tables_of_sentences_are_told_from_tables_of_numbers(folder):
    def classes(*rows, num_columns=2):
        columns = [f"*c{number}*" for number in range(num_columns)]
        page = to_html(document(Table(columns, [[row] * num_columns for row in rows])), folder)
        return set(re.search('<div class="table ?([^"]*)"', page)[1].split()), page

    found, page = classes("word " * 20, "word " * 20, "short")
    assert found == {"sortable", "prose"}
    assert page.count('<td class="long" data-label="c1">') == 2
    assert classes("word " * 20, "short", "short")[0] == {"sortable"}
    assert classes(*["1"] * 15, num_columns=8)[0] == {"sortable", "tall", "broad"}
    assert classes("word " * 20, num_columns=10)[0] == {"broad", "wide"}


def test_folded_sections_are_details(folder):
    page = to_html(document(Section("More numbers", [Paragraph("inside")], is_folded=True)), folder)
    assert '<details class="fold" id="more-numbers">\n<summary><h3>More numbers</h3></summary>\n<p>inside</p>' in page


def test_page_allows_no_request(folder):
    page = to_html(document(), folder)
    assert "default-src 'none'" in page
    assert not re.search(r'(src|href)="(https?:)?//', page)


def test_links_to_other_reports_lead_to_their_pages(tmp_path):
    page = to_html(Document("t", "q", "c", [Section("s", [Paragraph("[one](../one/report.md) [b](b.md)")])]), tmp_path)
    assert 'href="../one/report.html"' in page
    assert 'href="b.md"' in page


def test_figure_links_to_its_file(folder):
    assert 'href="figures/a.svg"' in to_html(document(figure()), folder)


@pytest.mark.parametrize(
    ("text", "value", "key"),
    [
        ("0.123 [0.1, 0.2]", 0.1234, ""),
        ("12,345 samples", 12345.0, ""),
        ("12 %", 0.12, ' data-value="0.12"'),
        ("2 min", 120.0, ' data-value="120"'),
        ("none", 0.0, ' data-value="0"'),
    ],
)
def test_a_column_is_sorted_by_its_text_or_by_the_value_behind_it(folder, text, value, key):
    page = to_html(document(Table(["x", "y"], [["", Cell((text,), value=value)]])), folder)
    assert re.search("<td([^>]*)>", page)[1] == key


def test_width_becomes_a_hint_and_the_text_an_attribute():
    shown = inline_svg('<?xml?>\n<svg width="374.4pt" height="2pt"><rect width="7"/></svg>', "f1-", 'say "<hi>"')
    assert shown.startswith('<svg role="img" aria-label="say &quot;&lt;hi&gt;&quot;" style="--width: 374pt">')
    assert '<rect width="7"/>' in shown


def test_colours_of_the_page_replace_those_of_the_file():
    colours = "".join(f'<path style="fill: {colour}"/>' for colour in (INK, SOFT, GRID, PAPER, "#0173b2"))
    shown = inline_svg(f"<svg>{colours}</svg>", "f1-", "")
    fills = ["currentColor", "var(--soft)", "var(--line)", "var(--paper)", "#0173b2"]
    assert shown.count("fill: ") == len(fills)
    assert all(f"fill: {fill}" in shown for fill in fills)


def test_a_note_of_most_cells_stands_once_above_the_table(folder):
    notes = ["n = 4"] * 5 + ["n = 3", ""]
    page = to_html(document(Table(["arm"], [[Cell((str(row),), note=note)] for row, note in enumerate(notes)])), folder)
    assert page.count("n = 4") == 1
    assert "Unless a cell says otherwise: n = 4." in page
    assert re.findall('class="tip"[^>]*>([^<]*)<', page) == ["n = 3"]
