"""Events of mkdocs: pages that are made from code and reports, links, diagrams, and a check of what was built."""

import re
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any

import mmdr
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from aimv2.ablations.catalogue import FILES
from docs.site.pages import README, REPORTS, ROOT, closure, content, repository_path, rewritten, site_uri
from docs.site.reference import pages as reference_pages

API = {  # modules that extensions and analyses import
    "Plug-ins and errors": ("aimv2.extend", "aimv2.base.plugins", "aimv2.base.errors"),
    "Another model": ("aimv2.config.program", "aimv2.definitions.programs", "aimv2.run.programs"),
    "Configs": (
        *(
            "aimv2.config.run_config",
            "aimv2.config.training_config",
            "aimv2.config.data_config",
            "aimv2.config.model_config",
        ),
        *(
            "aimv2.config.evaluation_config",
            "aimv2.config.prefix",
            "aimv2.config.native",
            "aimv2.config.recipes.scales",
        ),
        *("aimv2.config.signature", "aimv2.config.arguments"),
    ),
    "Metrics and objectives": (
        *("aimv2.definitions.metrics", "aimv2.definitions.items", "aimv2.definitions.objectives"),
        "aimv2.evaluation.evaluate",
    ),
    "Studies": (
        *("aimv2.ablations.study", "aimv2.ablations.design", "aimv2.ablations.expectations", "aimv2.ablations.claims"),
        *("aimv2.ablations.expand", "aimv2.ablations.request"),
    ),
    "Records": (
        "aimv2.analysis.evidence.records",
        "aimv2.analysis.evidence.tables",
        "aimv2.analysis.evidence.run_files",
    ),
    "Statistics": (
        *("aimv2.analysis.inference.intervals", "aimv2.analysis.inference.contrasts", "aimv2.analysis.inference.items"),
        *("aimv2.analysis.inference.looks", "aimv2.analysis.judgement.rules"),
    ),
}
MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
LOADED = {
    "link": "href",
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "object": "data",
}
STYLE_URL = re.compile(r"""(?:url\(|@import)\s*["']?(https?:)?//""")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/, and complete the navigation with them."""
    made = reference_pages() | api_pages()
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    reports = [path.relative_to(ROOT) for path in sorted((ROOT / REPORTS).glob("*/report.md"))]
    shown = {README, *map(PurePosixPath, reports), REPORTS / "index.md"}
    written = {file.src_uri: file.content_string for file in files.documentation_pages()}
    shown |= closure((repository_path(uri), text) for uri, text in written.items())
    shown |= closure((path, content(path)) for path in shown if site_uri(path).suffix == ".md")
    shown |= {path for path in map(_relative, (ROOT / REPORTS).rglob("*")) if path.suffix in (".svg", ".json")}
    for path in sorted(shown):
        place = site_uri(path)
        if place.suffix == ".md":
            files.append(File.generated(config, str(place), content=content(path)))
        else:
            files.append(File.generated(config, str(place), abs_src_path=str(ROOT / path)))
    config.nav = [*(config.nav or []), *_navigation(reports)]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return a page with its links as they are in the site, and its diagrams as pictures."""
    path = repository_path(page.file.src_uri)
    return MERMAID.sub(lambda found: _picture(found[1]), rewritten(markdown, path))


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse pages that would request something from another host.

    Raises:
        PluginError: naming the first ones.
    """
    if found := elsewhere(Path(config.site_dir)):
        raise PluginError("pages request something from another host:\n" + "\n".join(found[:10]))


def elsewhere(site: Path) -> list[str]:
    """Return the addresses on other hosts that the pages and styles of a site request, each with its file."""
    found = []
    for path in sorted(site.rglob("*")):
        if path.suffix == ".html":
            reader = _Requests()
            reader.feed(path.read_text())
            found += [f"{path.relative_to(site)}: {address}" for address in reader.found]
        if path.suffix in (".html", ".css") and STYLE_URL.search(path.read_text()):
            found.append(f"{path.relative_to(site)}: a style")
    return found


class _Requests(HTMLParser):
    """Collects the addresses on other hosts that a page requests by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get(LOADED.get(tag, "")) or ""
        if re.match(r"(https?:)?//", address) or "mermaid" in (dict(attrs).get("class") or "").split():
            self.found.append(address or "mermaid, which the theme would load from another host")


def api_pages() -> dict[str, str]:
    """Return a page for each module of the API, by its path in docs/, and their list."""
    modules = [name for names in API.values() for name in names]
    listed = "\n\n".join(
        f"## {title}\n\n" + "\n".join(f"- [`{name}`]({name}.md)" for name in names) for title, names in API.items()
    )
    index = f"# API\n\nModules that extensions and analyses import. Other modules change without notice.\n\n{listed}\n"
    return {"api/index.md": index} | {f"api/{name}.md": f"# {name}\n\n::: {name}\n" for name in modules}


def _navigation(reports: list[Any]) -> list[dict[str, Any]]:
    studies = [{name: f"reference/studies/{name}.md"} for name in FILES]
    return [
        {
            "Reference": [
                {"Keys": "reference/keys.md"},
                {"Studies": ["reference/studies/index.md", *studies]},
                {"Metrics": "reference/metrics.md"},
                {"Claims": "reference/claims.md"},
            ]
        },
        {"API": ["api/index.md", *({title: [{n: f"api/{n}.md"} for n in names]} for title, names in API.items())]},
        {"Reports": [{"All reports": str(REPORTS / "index.md")}, *({one.parent.name: str(one)} for one in reports)]},
    ]


def _relative(path: Path) -> PurePosixPath:
    return PurePosixPath(path.relative_to(ROOT))


def _picture(source: str) -> str:
    picture: str = mmdr.render(source).svg()
    return f'<div class="diagram">{picture}</div>'
