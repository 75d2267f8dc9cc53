"""Findings quote numbers that their reports have."""

import re

import pytest

from tests.helpers.pages import LINK, README, ROOT

NUMBER = r"[+-]?\d+(?:\.\d+)?(?: %)?"
INTERVAL = re.compile(rf"{NUMBER} \[{NUMBER}, {NUMBER}\]")
PAGES = (README, ROOT / "docs/findings.md")
LINES = [(page, line) for page in PAGES for line in page.read_text().splitlines() if INTERVAL.search(line)]


@pytest.mark.parametrize(("page", "line"), LINES, ids=lambda value: str(value)[:60])
def test_a_line_quotes_intervals_of_the_reports_that_it_links(page, line):
    folders = {(page.parent / link).parent for link in LINK.findall(line) if "reports/published" in link}
    pages = "".join((folder / "report.md").read_text() for folder in folders)
    known = pages.replace(" | [", " [")  # in some tables the interval is the next cell
    assert [one for one in INTERVAL.findall(line) if one not in known] == []
