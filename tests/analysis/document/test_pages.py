"""A document as Markdown, HTML and JSON; what a browser makes of the page is in test_browser.py."""

import base64
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure as Picture

from aimv2.analysis.document.model import (
    GRID,
    INK,
    PAPER,
    SOFT,
    Bullets,
    Chip,
    Document,
    Figure,
    Paragraph,
    Section,
    Table,
    stacked,
)
from aimv2.analysis.document.pages import inline_svg, plain, to_html, to_json, to_markdown, to_plain
from aimv2.base.errors import escape

SVG = '<?xml version="1.0"?>\n<svg width="4pt" height="2pt" viewBox="0 0 4 2"><g style="fill: #1b1e23"/></svg>'
VOID = {"meta", "img", "br"}
FIGURE = Figure("a", "what it shows", "A caption.", Picture(), pd.DataFrame())
DOCUMENT = Document(
    title="title",
    subtitle="[Reports](../index.md)",
    answer="Because.",
    chips=[Chip("a claim", "supported"), Chip("another", "undecided")],
    lead=FIGURE,
    sections=[
        Section(
            "One",
            [
                Paragraph("text"),
                Table(["a", "b"], [["1", stacked("2", "3")]], name="numbers", caption="below"),
                Section("Inner", [Bullets(["x", "y"])]),
            ],
        )
    ],
    details=[Section("Two", [Paragraph("more, see [one](#one)")])],
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/a.svg").write_text(SVG)
    return tmp_path


def html_of(folder, *blocks):
    return to_html(to_markdown(Document("t", "", "", [Section("s", list(blocks))])), folder)


class Checker(HTMLParser):
    """Collects ids and references, and checks that tags are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.targets = [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.targets += [values["href"][1:]] if values.get("href", "").startswith("#") else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_well_formed_and_in_the_order_of_the_markdown(folder):
    page = to_html(to_markdown(DOCUMENT), folder)
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert set(checker.targets) <= set(checker.ids)
    body = page[page.index("<body>") :]
    parts = ["Because.", "a claim", "<svg", "A caption.", "<nav", '<h2 id="one">', "<td>2<br>3</td>"]
    places = [body.index(part) for part in [*parts, '<h2 id="details">', "<details>", '<div id="two">', "more, see"]]
    assert places == sorted(places)
    assert "<title>title</title>" in page


def test_page_allows_no_request_and_links_lead_to_pages(folder):
    page = html_of(folder, Paragraph("[a](../one/report.md) [b](x.md#y) [c](https://a.org/b.md) [d](#e)"))
    assert "default-src 'none'" in page
    assert re.findall('<p><a href="([^"]*)">|</a> <a href="([^"]*)">', page) == [
        ("../one/report.html", ""), ("", "x.html#y"), ("", "https://a.org/b.md"), ("", "#e"),
    ]  # fmt: skip


def test_images_of_the_folder_are_inlined_and_no_other_file_is_read(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "b.png"
    other.write_bytes(b"of this machine")
    (folder / "c.png").write_bytes(b"pixels")
    page = html_of(folder, Paragraph(f"![an <image>](c.png) ![there]({other}) ![up](../{other.parent.name}/b.png)"))
    assert f'<img src="data:image/png;base64,{base64.b64encode(b"pixels").decode()}" alt="an &lt;image&gt;">' in page
    assert page.count("<img") == 1
    assert "there up</p>" in page


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "[a](javascript:alert(1))", "![x](y)<img src=x>", "<b"])
def test_no_text_becomes_markup(folder, text):
    escaped = escape(text)
    table = Table([escaped], [[stacked(escaped, escaped)]], caption=escaped)
    for shown in (escaped, text):
        blocks = [Paragraph(shown), Bullets([shown]), table]
        document = Document(
            shown, shown, shown, [Section(shown, blocks)], details=[Section("more", [Paragraph(shown)])]
        )
        page = to_html(to_markdown(document), folder)
        body = page[page.index("<body>") :]
        assert not re.search(r"<(script|img|b\b)(?!r)", body)
        assert 'href="javascript' not in body


@pytest.mark.parametrize(
    "interval",
    ["Δ +0.1 [-0.2, +0.4]", "-3,415 [-3,749, -3,080]", "5.89e+11 [5.28e+11, 6.27e+11]", "[0, 1]", "> [1, 2]"],
)
def test_intervals_and_units_do_not_wrap(folder, interval):
    shown = interval.replace(">", "&gt;")
    page = html_of(folder, Paragraph(f"It is {interval} at 95 %"))
    assert f'<p>It is <span class="number">{shown}</span> at 9<span class="number">5 %</span></p>' in page


def test_a_figure_has_a_text_a_hint_of_its_width_and_the_colours_of_the_page():
    colours = "".join(f'<path style="fill: {colour}"/>' for colour in (INK, SOFT, GRID, PAPER, "#0173b2"))
    shown = inline_svg(f'<?xml?>\n<svg width="374.4pt" height="2pt"><rect width="7"/>{colours}</svg>', "say &lt;hi&gt;")
    assert shown.startswith('<svg role="img" aria-label="say &lt;hi&gt;" style="--width: 374pt"><rect width="7"/>')
    fills = ["currentColor", "var(--soft)", "var(--line)", "var(--paper)", "#0173b2"]
    assert re.findall('fill: ([^"]*)', shown) == fills


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("*a* **b** `c_1` ~~red apple~~", "a b c_1 red apple"),
        ("[the *page*](https://a.org/b_c) ![alt](/etc/passwd)", "the page alt"),
        (r"\*a\* &lt; two<br>lines", "*a* < two lines"),
        ("a\nb", "a b"),
    ],
)
def test_inline_markdown_becomes_its_text(markdown, text):
    assert to_plain(markdown) == text


def test_json_has_the_findings_and_no_text():
    found = json.loads(to_json(replace(DOCUMENT, numbers={"n": 1.0})))
    assert found == {"version": 5, "title": "title", "answer": "Because.", "numbers": {"n": 1.0}, "files": []}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_lose_less_than_their_eighth_digit(value):
    assert math.isclose(plain(value), value, rel_tol=1e-7, abs_tol=1e-320)


def test_structures_keep_all_but_their_floats():
    values = {"n": 10**12, "name": "a", "all": (1.0, float("nan"), [float("inf"), None, True])}
    assert plain(values) == {"n": 10**12, "name": "a", "all": [1.0, None, [None, None, True]]}
