"""The page of a study in headless Chromium: what a reader sees and does."""

from dataclasses import replace

import pytest

from aimv2.ablations.claims import CLAIMS
from aimv2.analysis.claims.index import document as index
from aimv2.analysis.document.model import Bullets, Paragraph, Section, Table
from aimv2.analysis.document.write import write, write_index
from aimv2.analysis.sections.study import document
from tests.helpers.browser import Browser, find_browser
from tests.helpers.programs import skip_without

pytestmark = pytest.mark.exhaustive

WIDE = Table([f"column {number}" for number in range(30)], [["1.000 [0.900, 1.100]"] * 30] * 60)
PROSE = Table(["claim", "verdict"], [[f"claim {n} " * 20, "evidence " * 30] for n in range(3)])
LONG = Paragraph(f"`{'a_very_long_command ' * 20}`")


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
    report = document(findings, {})
    wide = Section("Wide", [WIDE, PROSE, LONG, Bullets(["word" * 60])])
    report = replace(report, sections=[wide, *report.sections])
    return write(report, tmp_path_factory.mktemp("page") / "t").with_suffix(".html")


@pytest.fixture(scope="module")
def index_page(findings, tmp_path_factory):
    return write_index(index({findings.request.folder: findings}), tmp_path_factory.mktemp("index")).with_suffix(
        ".html"
    )


def test_answer_verdicts_and_figure_are_on_the_first_screen(browser, page):
    bottom = "return document.querySelector('{}').getBoundingClientRect().bottom"
    browser.open(page, 1200, 900)
    assert 200 < browser.run(bottom.format("header svg")) <= 900
    browser.open(page, 390, 844)
    assert browser.run(bottom.format("header blockquote")) < 844


@pytest.mark.parametrize("width", [390, 1440])
def test_index_shows_all_claims_and_fits_its_width(browser, index_page, findings, width):
    browser.open(index_page, width, 900)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    names = browser.run("return [...document.querySelectorAll('td')].flatMap(cell => cell.innerText.split('\\n'))")
    assert {claim.id for claim in CLAIMS.values() if not claim.part_of} <= set(names)
    links = browser.run("return [...document.querySelectorAll('td a')].map(link => link.getAttribute('href'))")
    assert links == [f"{findings.request.folder}/report.html"]


def test_text_in_figures_can_be_read_on_a_phone(browser, page, index_page):
    sizes = """
        document.querySelectorAll("details").forEach(fold => { fold.open = true; });
        return [...document.querySelectorAll("svg text")].map(text => {
          const to_screen = text.getScreenCTM();
          return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(to_screen.a, to_screen.b); });
    """
    for path in (page, index_page):
        browser.open(path, 390, 844)
        found = browser.run(sizes)
        assert len(found) > 5
        assert min(found) >= 9


@pytest.mark.parametrize("width", [390, 768, 1200])
def test_only_tables_figures_and_code_scroll_sideways(browser, page, width):
    browser.open(page, width)
    browser.run("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    assert browser.run("return innerWidth") == width
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run("const box = document.querySelector('.scroll'); return box.scrollWidth > box.clientWidth")


def test_a_link_to_a_folded_section_opens_it(browser, page):
    browser.open(page)
    shown = """
        await new Promise(done => setTimeout(done, 50));
        const part = document.getElementById("runs"), at = part.getBoundingClientRect();
        return [part.closest("details").open, at.top >= 0 && at.top < innerHeight]
    """
    assert browser.run(shown)[0] is False
    browser.run("location.hash = '#runs'")
    assert browser.run(shown) == [True, True]


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
        const texts = ["h1", "header p", "blockquote p", "nav a", "p:has(> svg)", "thead th", "td"]
          .map(name => [name, of(document.querySelector(name), "color")]);
        return [...texts, ["svg text", of(document.querySelector("svg text"), "fill")]]
    """
    found = dict(browser.run(contrast))
    assert all(ratio >= 4.5 for ratio in found.values()), found


def test_print_opens_folds_and_shows_tables_whole(browser, page):
    browser.open(page, media="print")
    assert browser.run("return getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    assert browser.run("return document.querySelector('details p').getBoundingClientRect().height") > 0
    assert browser.run("return getComputedStyle(document.querySelector('nav')).display") == "none"


def test_nothing_is_requested_from_the_network(browser, page, tmp_path):
    browser.open(page)
    browser.run("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    assert [url for url in browser.requested if not url.startswith("data:")] == [page.as_uri()]
    asking = tmp_path / "asking.html"
    asking.write_text('<img src="http://127.0.0.1:9/image.png">')
    browser.open(asking)
    assert "http://127.0.0.1:9/image.png" in browser.requested, "a request would have been seen"
