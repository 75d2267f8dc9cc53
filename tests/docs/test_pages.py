"""Pages are short, and their links, keys, studies and scales exist."""

import re

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.config.program import value_at
from aimv2.config.recipes.scales import SCALES, demo
from aimv2.definitions.objectives import OBJECTIVES
from aimv2.sweeps.executors.base import executor_values
from tests.helpers.pages import FENCE, INSTALLERS, LINK, PAGES, PROGRAMS, README, ROOT, SHELL, lines

ONE_RUN, CLUSTER = (ROOT / "docs" / name for name in ("one-run.md", "cluster.md"))
MAX_README_WORDS = 900
GUIDES = [page for page in PAGES if page.is_relative_to(ROOT / "docs") and page.name != "glossary.md"]


def anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def first_column(page, heading):
    """The names in the first column of the tables below a heading, with `.name` completed by the name before it."""
    section = page.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    names = []
    for row in re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", row):
            names.append(names[-1].rpartition(".")[0] + name if name.startswith(".") else name)
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page):
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_starts_with_a_command(page):
    before_first_section = page.read_text().split("\n## ")[0]
    language, block = FENCE.search(before_first_section).groups()
    assert language in SHELL
    assert block.split()[0] in (*PROGRAMS, *INSTALLERS, "aimv2")


def test_readme_is_short_and_lists_every_study_once_and_every_page():
    assert len(README.read_text().split()) <= MAX_README_WORDS
    assert {line.split()[0] for line in lines(README)} <= set(PROGRAMS), "blocks without a language hold commands only"
    assert sorted(first_column(README, "Studies")) == sorted(STUDIES)
    listed = {link.partition("#")[0] for link in LINK.findall(README.read_text())}
    assert {str(page.relative_to(ROOT)) for page in PAGES if page.is_relative_to(ROOT / "docs")} <= listed


def test_the_one_run_page_lists_every_scale_and_objective_and_keys_that_exist():
    assert sorted(first_column(ONE_RUN, "Scales")) == sorted(SCALES)
    assert set(OBJECTIVES) <= set(re.findall(r"`(\w+)`", ONE_RUN.read_text()))
    keys = first_column(ONE_RUN, "Keys")
    assert len(keys) > 30
    for key in keys:
        value_at(demo(), key)


def test_keys_of_the_cluster_page_exist():
    known = executor_values("slurm")["slurm"]
    keys = first_column(CLUSTER, "Keys")
    assert len(keys) > 10
    assert {key.removeprefix("executor.") for key in keys} <= set(known)


def test_the_map_names_files_and_folders_that_exist():
    text = (ROOT / "docs" / "architecture.md").read_text()
    paths = set(re.findall(r"`((?:aimv2|ablations|analysis|sweeps|benchmarks|tests)/[\w/.-]+)`", text))
    assert len(paths) > 40
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
