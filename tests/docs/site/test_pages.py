"""Files of the repository have a place in the site, and links lead there."""

from pathlib import PurePosixPath

import pytest

from docs.site.pages import BrokenLinkError, closure, content, landing, links, repository_path, rewritten, site_uri
from tests.helpers.pages import README

PAGE = PurePosixPath("docs/claims.md")


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("README.md", "index.md"),
        ("docs/cost.md", "cost.md"),
        ("docs/reference/keys.md", "reference/keys.md"),
        ("docs/notebooks/own_analysis.ipynb", "notebooks/own_analysis.ipynb"),
        ("reports/published/prefix_ratio/report.md", "reports/published/prefix_ratio/report.md"),
        ("reports/published/figures/forest.svg", "reports/published/figures/forest.svg"),
        ("aimv2/config/prefix.py", "source/aimv2/config/prefix.py.md"),
        ("aimv2/config", "source/aimv2/config/index.md"),
        ("benchmarks/results.md", "benchmarks/results.md"),
    ],
)
def test_place_of_a_file(path, uri):
    assert str(site_uri(PurePosixPath(path))) == uri
    if uri.endswith(".md"):
        assert str(repository_path(uri)) == path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](cost.md#setup)", "[a](cost.md#setup)"),
        ("[a](#here) [b](https://arxiv.org)", "[a](#here) [b](https://arxiv.org)"),
        ("[`a.py`](../aimv2/cli.py)", "[`a.py`](source/aimv2/cli.py.md)"),
        ("[a](../README.md#studies)", "[a](reference/studies/index.md)"),
        ("[a](/ablations/claims.yaml)", "[a](source/ablations/claims.yaml.md)"),
        ("![a](../reports/published/figures/forest.svg)", "![a](reports/published/figures/forest.svg)"),
        ("`[a](../nowhere.md)`", "`[a](../nowhere.md)`"),
        ("```\n[a](../nowhere.md)\n```\n", "```\n[a](../nowhere.md)\n```\n"),
    ],
)
def test_links_are_rewritten_outside_code_and_those_that_lead_nowhere_are_named(text, expected):
    assert rewritten(text, PAGE) == expected
    for link in ("../nowhere.md", "../aimv2/nothing.py"):
        with pytest.raises(BrokenLinkError, match=r"docs/claims.md: .*no"):
            rewritten(f"{text} [a]({link})", PAGE)


def test_closure_follows_links_of_pages_outside_docs():
    assert list(links("[a](../CONTRIBUTING.md) [b](cost.md)", PAGE)) == [PurePosixPath("CONTRIBUTING.md")]
    found = closure([(PAGE, "[a](../CONTRIBUTING.md)")])
    assert PurePosixPath("CONTRIBUTING.md") in found
    folder = closure([(PAGE, "[a](../aimv2/config/)")])
    assert PurePosixPath("aimv2/config/recipes/scales.py") in folder


def test_landing_page_is_the_first_screen_of_readme_and_its_list_of_pages():
    page = landing(README.read_text())
    assert all(heading in page for heading in ("# AIMv2, reproduced and ablated", "## Quick start", "## Documentation"))
    assert "## Run your own" not in page


def test_a_source_file_is_shown_whole_and_not_searched():
    page = content(PurePosixPath("aimv2/cli.py"))
    assert "exclude: true" in page
    assert (README.parent / "aimv2" / "cli.py").read_text() in page
