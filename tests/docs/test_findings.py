"""Findings quote numbers that their reports have."""

import re

import pytest

from tests.helpers.pages import LINK, ROOT

NUMBER = r"[+-]?\d+(?:\.\d+)?(?: %)?"
INTERVAL = re.compile(rf"{NUMBER} \[{NUMBER}, {NUMBER}\]")
ROWS = [line for line in (ROOT / "docs/findings.md").read_text().splitlines() if INTERVAL.search(line)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split(" | ")[0])
def test_a_row_quotes_intervals_of_its_report(row):
    (link,) = LINK.findall(row)
    folder = (ROOT / "docs" / link).parent
    pages = "".join((folder / name).read_text() for name in ("report.md", "details.md"))
    known = pages.replace(" | [", " [")  # in some tables the interval is the next cell
    assert [one for one in INTERVAL.findall(row) if one not in known] == []
