"""The page of a study in headless Chromium: what a reader sees and does."""

from dataclasses import replace

import pytest

from aimv2.ablations.claims import CLAIMS
from aimv2.analysis.claims.index import document as index
from aimv2.analysis.document.html import to_html
from aimv2.analysis.document.model import VERDICTS, Bullets, Cell, Code, Paragraph, Section, Table
from aimv2.analysis.document.style import save
from aimv2.analysis.document.write import write_index
from aimv2.analysis.sections.study import document
from tests.helpers.browser import Browser, find_browser
from tests.helpers.programs import skip_without

pytestmark = pytest.mark.exhaustive

NUMBERS = Table(
    ["name", "number"],
    [
        ["ten", Cell(("10.0 [9.0, 11.0]",), "a note on ten", 10.0)],
        ["nine", Cell(("9.0",), "", 9.0)],
        ["none", ""],
        ["minus one", Cell(("-1",), note="a note on minus one", value=-1.0)],
    ],
    name="numbers",
    is_filterable=True,
)
WIDE = Table([f"column {number}" for number in range(30)], [["1.000 [0.900, 1.100]"] * 30] * 60, name="wide")
PROSE = Table(
    ["claim", "verdict", "evidence"], [[f"claim {n} " * 20, "open", "evidence " * 30] for n in range(3)], name="prose"
)
LONG = Code("a_very_long_command " * 20)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = find_browser()
    skip_without(program, "no Chromium on the PATH (Debian: apt-get install chromium)")
    started = Browser(program, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def page(findings, tmp_path_factory):
    """The page of a study, with more tables."""
    folder = tmp_path_factory.mktemp("page")
    report = document(findings, {})
    more = [
        Section("Numbers", [NUMBERS, Section("More", [Paragraph("folded text")], is_folded=True)]),
        Section("Wide", [WIDE, PROSE, LONG, Bullets(["word" * 60])]),
    ]
    report = replace(report, sections=[*more, *report.sections])
    for figure in report.figures():
        save(figure.picture, figure.data, folder / "figures", figure.name)
    path = folder / "report.html"
    path.write_text(to_html(report, folder))
    return path


def column(browser):
    """Return the first column of the table of numbers, without rows that are filtered out."""
    return browser.run(
        "return [...document.querySelectorAll('#table-numbers tbody tr')].filter(row => !row.hidden)"
        ".map(row => row.cells[0].textContent)"
    )


def test_answer_verdicts_and_figure_are_on_the_first_screen(browser, page):
    bottom = "return document.querySelector('{}').getBoundingClientRect().bottom"
    browser.open(page, 1200, 800)
    assert browser.run(bottom.format(".chips")) <= 800
    assert 200 < browser.run(bottom.format(".lead svg")) <= 800
    browser.open(page, 390, 844)
    assert browser.run(bottom.format(".answer")) < browser.run(bottom.format(".chips")) <= 844


def test_a_verdict_has_a_colour_and_a_word(browser, page, findings):
    browser.open(page)
    chips = """
        return [...document.querySelectorAll(".chip")].map(chip =>
          [chip.textContent.trim().replace(/\\s+/g, " "), getComputedStyle(chip).borderLeftColor])
    """

    def rgb(word):
        return f"rgb({', '.join(str(int(VERDICTS[word].color[at : at + 2], 16)) for at in (1, 3, 5))})"

    shown = [(f"{verdict.word} {name}", rgb(str(verdict.word))) for name, verdict in findings.verdicts.items()]
    assert [tuple(one) for one in browser.run(chips)] == shown


@pytest.mark.parametrize("width", [390, 1440])
def test_index_shows_all_claims_and_fits_its_width(browser, findings, tmp_path, width):
    path = write_index(index({findings.request.folder: findings}), tmp_path).with_name("index.html")
    browser.open(path, width, 900)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    names = browser.run("return [...document.querySelectorAll('svg text')].map(text => text.textContent)")
    assert {claim.id for claim in CLAIMS.values() if not claim.part_of} <= set(names)
    pictures = browser.run("return [...document.querySelectorAll('.picture svg')].map(one => one.ariaLabel)")
    assert pictures == ["The verdict on every claim", "Differences behind verdicts in units of their margins"]
    links = browser.run("return [...document.querySelectorAll('td a, th a')].map(link => link.getAttribute('href'))")
    assert links == [f"{findings.request.folder}/report.html"]


def test_text_in_figures_can_be_read_on_a_phone(browser, page, findings, tmp_path):
    index_page = write_index(index({findings.request.folder: findings}), tmp_path).with_name("index.html")
    sizes = """
        document.querySelectorAll("details").forEach(fold => { fold.open = true; });
        return [...document.querySelectorAll("svg text")].map(text => {
          const to_screen = text.getScreenCTM();
          return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(to_screen.a, to_screen.b); });
    """
    for one in (page, index_page):
        browser.open(one, 390, 844)
        found = browser.run(sizes)
        assert len(found) > 5
        assert min(found) >= 9


@pytest.mark.parametrize("width", [390, 768, 1200])
def test_only_tables_figures_and_code_scroll_sideways(browser, page, width):
    browser.open(page, width)
    browser.run("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    assert browser.run("return innerWidth") == width
    assert browser.run("return document.documentElement.scrollWidth") <= width
    is_wider = "const box = document.querySelector('#table-wide .scroll'); return box.scrollWidth > box.clientWidth"
    assert browser.run(is_wider)


def test_a_phone_shows_sentences_below_each_other(browser, page):
    places = """
        const box = document.querySelector("#table-prose .scroll"), row = box.querySelector("tbody tr");
        const [claim, verdict, evidence] = [...row.cells].map(cell => cell.getBoundingClientRect());
        return [claim.bottom <= verdict.top && verdict.bottom <= evidence.top, box.scrollWidth <= box.clientWidth,
          getComputedStyle(row.cells[1], "::before").content.includes("verdict")]
    """
    browser.open(page, 390, 844)
    assert browser.run(places) == [True, True, True]
    browser.open(page, 1200, 800)
    assert browser.run(places)[0] is False, "a table on a wide screen"


def test_header_and_first_column_stay_while_a_table_scrolls(browser, page):
    browser.open(page, 390, 844)
    corner = """
        const box = document.querySelector("#table-wide .scroll");
        box.scrollTo(400, 500);
        await new Promise(requestAnimationFrame);
        const place = cell => { const at = cell.getBoundingClientRect(), of = box.getBoundingClientRect();
          return [Math.round(at.left - of.left), Math.round(at.top - of.top)]; };
        const table = box.querySelector("table");
        return [box.scrollLeft, box.scrollTop, place(table.tHead.rows[0].cells[5])[1], place(table.rows[9].cells[0])[0]]
    """
    assert browser.run(corner) == [400, 500, 0, 0]


def test_tables_sort_by_value_on_click_and_by_keyboard(browser, page):
    browser.open(page)
    order = "return [...document.querySelectorAll('#table-numbers th')].map(head => head.getAttribute('aria-sort'))"
    button = "document.querySelectorAll('#table-numbers th button')[1]"
    browser.run(f"{button}.click()")
    assert column(browser) == ["minus one", "nine", "ten", "none"], "cells without a number come last"
    assert browser.run(order)[:2] == ["none", "ascending"]
    browser.run(f"{button}.focus()")
    browser.press("Enter")
    assert column(browser) == ["ten", "nine", "minus one", "none"]
    assert browser.run(order)[:2] == ["none", "descending"]
    browser.press("Enter")
    assert column(browser) == ["ten", "nine", "none", "minus one"], "the order of the page"


def test_filter_shows_the_rows_that_match_and_their_number(browser, page):
    browser.open(page)
    type_in = """
        const input = document.querySelector("#table-numbers input");
        input.value = "{}"; input.dispatchEvent(new Event("input"));
        return document.querySelector("#table-numbers output").textContent
    """
    assert browser.run(type_in.format("N ONE")) == "2 of 4 rows match"
    assert column(browser) == ["none", "minus one"]
    assert browser.run(type_in.format("zebra")) == "0 of 4 rows match"
    assert browser.run(type_in.format("")) == "4 rows"


def test_a_link_to_a_folded_section_opens_it(browser, page):
    browser.open(page)
    shown = """
        await new Promise(done => setTimeout(done, 50));
        const fold = document.getElementById("runs"), at = fold.getBoundingClientRect();
        return [fold.open, at.top >= 0 && at.top < innerHeight]
    """
    assert browser.run(shown) == [False, False]
    browser.run("document.querySelector('nav a[href=\"#details\"]').focus()")
    browser.press("Enter")
    assert browser.run(shown)[0] is False, "the details are open, and what is folded in them is not"
    browser.run("document.querySelector('.contents a[href=\"#runs\"]').focus()")
    browser.press("Enter")
    assert browser.run(shown) == [True, True]


def test_notes_show_on_focus_and_hide_on_escape(browser, page):
    browser.open(page, 390, 844)
    visible = """
        return [...document.querySelectorAll("#table-numbers .tip")].filter(tip => tip.checkVisibility(
          { visibilityProperty: true })).map(tip => [tip.textContent, tip.getBoundingClientRect().right <= innerWidth])
    """
    assert browser.run(visible) == []
    browser.run("document.querySelector('#table-numbers .note[tabindex]').focus()")
    assert browser.run(visible) == [["a note on ten", True]]
    browser.press("Escape")
    assert browser.run(visible) == []


@pytest.mark.parametrize("is_dark", [False, True])
def test_text_has_the_contrast_of_wcag_aa(browser, page, is_dark):
    """The figures' text is of the page's colours too."""
    browser.open(page, is_dark=is_dark)
    contrast = """
        const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
        const light = color => {
          probe.fillStyle = color; probe.fillRect(0, 0, 1, 1);
          const [r, g, b] = [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const paper = light(getComputedStyle(document.body).backgroundColor);
        const of = (element, name) => {
          const [a, b] = [light(getComputedStyle(element)[name]), paper].sort((a, b) => b - a);
          return (a + 0.05) / (b + 0.05);
        };
        const texts = ["h1", ".subtitle", ".answer p", ".chip", "nav a", "figcaption", "thead th", "td"]
          .map(name => [name, of(document.querySelector(name), "color")]);
        return [...texts, ["svg text", of(document.querySelector("svg text"), "fill")]]
    """
    found = dict(browser.run(contrast))
    assert all(ratio >= 4.5 for ratio in found.values()), found


def test_print_opens_folds_and_shows_tables_whole(browser, page):
    browser.open(page, media="print")
    box = "document.querySelector('#table-wide .scroll')"
    assert browser.run(f"return getComputedStyle({box}).overflowY") == "visible"
    assert browser.run("return document.querySelector('details.fold p').getBoundingClientRect().height") > 0
    assert browser.run("return getComputedStyle(document.querySelector('nav')).display") == "none"
    button = "return getComputedStyle(document.querySelector('th button')).display"
    assert browser.run(button) == "contents", "Chromium repeats no header with buttons on the next page"
    browser.open(page)
    count = "document.querySelectorAll('details.fold:not([open])').length"
    browser.run(f"window.folds = []; addEventListener('beforeprint', () => window.folds.push({count}))")
    before = browser.run(f"return {count}")
    browser.call("Page.printToPDF")
    assert before > 0
    assert browser.run("return window.folds") == [0]
    assert browser.run(f"return {count}") == before, "folds close again"


def test_nothing_is_requested_from_the_network(browser, page, tmp_path):
    browser.open(page)
    browser.run(
        "document.querySelectorAll('details').forEach(fold => { fold.open = true; }); await document.fonts.ready"
    )
    assert {url.partition(":")[0] for url in browser.requested} <= {"file", "data"}
    assert [url for url in browser.requested if url.startswith("file:")] == [page.as_uri()]
    asking = tmp_path / "asking.html"
    asking.write_text('<img src="http://127.0.0.1:9/image.png">')
    browser.open(asking)
    assert "http://127.0.0.1:9/image.png" in browser.requested, "a request would have been seen"
