"""The committed pages: short enough to be read, and each the way to the others."""

import re
from pathlib import Path

import pytest

REPORTS = Path(__file__).parents[2] / "reports/published"
PAGES = sorted(REPORTS.glob("*/report.md"))
MAX_WORDS = {"claims": 2100}


def name_of(path):
    return path.parent.name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_summary_has_few_words_and_a_short_answer(page):
    text, _, _ = page.read_text().partition("\n## Details\n")
    assert len(text.split()) <= MAX_WORDS.get(page.parent.name, 1200)
    answer = re.search("^> (.*)$", text, flags=re.M)[1]
    assert len(answer.split()) <= 25


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_all_links_lead_somewhere(page):
    for file in (page, REPORTS / "index.md"):
        for target in re.findall(r"\]\(([^\s#)]+)", file.read_text()):
            assert target.startswith("http") or (file.parent / target).exists(), f"{file}: {target}"


def test_the_index_leads_to_every_report():
    index = (REPORTS / "index.md").read_text()
    assert not [name for name in map(name_of, PAGES) if f"({name}/report.md)" not in index]
