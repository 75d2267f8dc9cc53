"""The site is built, requests nothing from other hosts, and fits a phone."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.helpers.browser import Browser, find_browser
from tests.helpers.pages import PAGES, ROOT
from tests.helpers.programs import skip_without

PHONE_PX = 390
SHOWN = (
    "",
    "tutorials/check-a-claim/",
    "reference/keys/",
    "reference/studies/scaling/",
    "reference/claims/",
    "reports/published/",
    "reports/published/prefix_ratio/report/",
    "architecture/",
    "api/aimv2.ablations.study/",
)
# What sticks out of the window and is in no element that scrolls.
CUT_OFF = """
const scrolls = one => one && (getComputedStyle(one).overflowX != "visible" || scrolls(one.parentElement));
return [...document.querySelectorAll("article *")]
    .filter(one => one.getBoundingClientRect().right > window.innerWidth + 1 && !scrolls(one.parentElement))
    .map(one => one.outerHTML.slice(0, 100));
"""


@pytest.fixture(scope="module")
def hook():
    skip_without(find_spec("mkdocs") and find_spec("mmdr"), "no mkdocs or no mmdr (the extra docs)")
    from docs.site import hook

    return hook


@pytest.fixture(scope="module")
def site(hook, tmp_path_factory):
    """The built site."""
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    variables = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    return folder


@pytest.mark.parametrize(
    ("name", "text", "is_found"),
    [
        ("a.html", '<img src="https://example.org/a.png">', True),
        ("a.html", "<script src='//example.org/a.js'></script>", True),
        ("a.html", '<link href="https://fonts.example.org" rel="preconnect">', True),
        ("a.html", '<pre class="mermaid"><code>', True),
        ("a.html", '<a href="https://example.org">a link</a><img src="a.png">', False),
        ("a.css", "body { background: url(https://example.org/a.png) }", True),
        ("a.css", "@import '//example.org/a.css';", True),
        ("a.css", "body { background: url(data:image/png;base64,AA) }", False),
        ("a.txt", "<img src='https://example.org/a.png'>", False),
    ],
)
def test_requests_to_other_hosts_are_found(hook, tmp_path, name, text, is_found):
    (tmp_path / name).write_text(text)
    assert bool(hook.elsewhere(tmp_path)) == is_found


def test_every_module_of_the_api_exists(hook):
    modules = [name for names in hook.API.values() for name in names]
    assert len(modules) == len(set(modules))
    assert all(find_spec(name) is not None for name in modules)
    assert set(hook.api_pages()) == {"api/index.md", *(f"api/{name}.md" for name in modules)}


@pytest.mark.exhaustive
def test_the_site_has_every_page_and_requests_nothing(hook, site):
    for page in PAGES:
        if page.is_relative_to(ROOT / "docs"):
            place = page.relative_to(ROOT / "docs").with_suffix("")
            assert (site / place / "index.html").exists(), page
    assert hook.elsewhere(site) == []
    assert (site / "search" / "search_index.json").stat().st_size > 100_000
    assert len(list(site.glob("reports/published/*/report/index.html"))) == len(
        list((ROOT / "reports/published").glob("*/report.md"))
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize("page", SHOWN)
def test_a_page_fits_a_phone_and_requests_nothing(site, tmp_path, page):
    skip_without(find_browser(), "no Chromium")
    browser = Browser(find_browser(), tmp_path / "profile")
    try:
        browser.open(site / page / "index.html", PHONE_PX, 844)
        assert browser.run(CUT_OFF) == []
        assert browser.run("return document.documentElement.scrollWidth") <= PHONE_PX
        assert [one for one in browser.requested if not one.startswith(("file:", "data:", "blob:"))] == []
    finally:
        browser.close()
