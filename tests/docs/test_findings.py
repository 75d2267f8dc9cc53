"""Findings quote numbers that their reports have."""

import re
from decimal import Decimal

import pytest

from tests.helpers.pages import LINK, README, ROOT

NUMBER = r"([+-]?[\d,]*\d(?:\.\d+)?)(?: %)?"
INTERVAL = re.compile(rf"{NUMBER} (?:\| )?\[{NUMBER}, {NUMBER}\]")  # in some tables the interval is the next cell
PAGES = (README, ROOT / "docs/findings.md")
LINES = [(page, line) for page in PAGES for line in page.read_text().splitlines() if INTERVAL.search(line)]


def intervals(text):
    """Return the mean and the ends of each interval, with its digits."""
    return [tuple(Decimal(number.replace(",", "")) for number in found) for found in INTERVAL.findall(text)]


def is_rounded(quoted, shown):
    """True if each number has at most the digits of the one that is shown, and is the nearest to it."""
    pairs = [(each.as_tuple().exponent, each, other) for each, other in zip(quoted, shown, strict=True)]
    return all(
        exponent >= other.as_tuple().exponent and abs(each - other) <= Decimal("0.5").scaleb(exponent)
        for exponent, each, other in pairs
    )


@pytest.mark.parametrize(("page", "line"), LINES, ids=lambda value: str(value)[:60])
def test_a_line_quotes_intervals_of_the_reports_that_it_links(page, line):
    folders = {(page.parent / link).parent for link in LINK.findall(line) if "reports/published" in link}
    shown = intervals("".join((folder / "report.md").read_text() for folder in folders))
    assert [quoted for quoted in intervals(line) if not any(is_rounded(quoted, each) for each in shown)] == []
