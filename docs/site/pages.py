"""Files of the repository as pages of the site, and links between them.

A page of docs/ has the same path in the site. A Markdown file elsewhere keeps its path in the repository, a report too.
Other files that pages link to are shown as pages below ``source/``.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
DOCS, REPORTS, SOURCE = (PurePosixPath(name) for name in ("docs", "reports/published", "source"))
README = PurePosixPath("README.md")
COPIED = (".svg", ".png", ".ipynb", ".json")  # suffixes of files that browsers show, or that are downloaded
MOVED = {  # sections of README whose place in the site is not the landing page
    "README.md#studies": PurePosixPath("docs/reference/studies/index.md"),
}
FIRST_SCREEN_ENDS, GUIDE_STARTS = "\n## Run your own\n", "\n## Documentation\n"  # in README
CODE_OR_LINK = re.compile(
    r"(^```.*?^```$|(?<!`)`[^`\n]+`(?!`))|(?<=\]\()([^)\s]+)(?=\))", flags=re.DOTALL | re.MULTILINE
)
BELOW_OTHERS = "---\nsearch:\n  boost: 0.5\n---\n"  # in the results of a search
LANGUAGES = {".py": "python", ".yaml": "yaml", ".c": "c", ".sh": "bash", ".toml": "toml"}


class BrokenLinkError(ValueError):
    """A page links to what does not exist."""


def site_uri(path: PurePosixPath) -> PurePosixPath:
    """Return the path in the site of a file or folder of the repository."""
    if path == README:
        return PurePosixPath("index.md")
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS)
    if path.suffix == ".md" or path.suffix in COPIED:
        return path
    if (ROOT / path).is_dir():
        return SOURCE / path / "index.md"
    return SOURCE / f"{path}.md"


def repository_path(uri: str) -> PurePosixPath:
    """Return the file that a page of the site shows, or the place in docs/ of a page that is generated."""
    path = PurePosixPath(uri)
    if uri == "index.md":
        return README
    if path.is_relative_to(SOURCE):
        shown = path.relative_to(SOURCE)
        return shown.parent if shown.name == "index.md" else shown.with_name(shown.name.removesuffix(".md"))
    is_elsewhere = (ROOT / path).is_file() and not (ROOT / DOCS / path).exists()
    return path if is_elsewhere else DOCS / path


def links(text: str, path: PurePosixPath) -> Iterator[PurePosixPath]:
    """Yield the files and folders outside docs/ to which the Markdown of a file links.

    Raises:
        BrokenLinkError: one does not exist.
    """
    for match in CODE_OR_LINK.finditer(text):
        target, _ = _resolved(match[2], path) if match[2] else (None, "")
        if target is not None and not target.is_relative_to(DOCS):
            yield target


def rewritten(text: str, path: PurePosixPath) -> str:
    """Return the Markdown of a file with its links as they are in the site.

    Raises:
        BrokenLinkError: a link leads nowhere.
    """

    def replace(match: re.Match[str]) -> str:
        target, anchor = _resolved(match[2], path) if match[2] else (None, "")
        if target is None:
            return match[0]
        uri = site_uri(target)
        return os.path.relpath(uri, site_uri(path).parent) + (f"#{anchor}" if anchor else "")

    return CODE_OR_LINK.sub(replace, text)


def content(path: PurePosixPath) -> str:
    """Return the Markdown that shows a file or folder of the repository."""
    if path == README:
        return landing((ROOT / README).read_text())
    if (ROOT / path).is_dir():
        rows = "\n".join(f"- [`{name.name}`](/{name})" for name in listed(path))
        return f"{_without_search(str(path))}# {path}/\n\n{rows}\n"
    text = (ROOT / path).read_text()
    if path.suffix != ".md":
        language = LANGUAGES.get(path.suffix, "text")
        assert "````" not in text, f"{path} would end the block that shows it"
        return f'{_without_search(path.name)}# {path}\n\n````{language} linenums="1"\n{text}````\n'
    if path.is_relative_to(REPORTS) and path.name in ("report.md", "index.md"):
        return f"{BELOW_OTHERS}{text}"
    return text


def landing(readme: str) -> str:
    """Return the first screen of README, followed by its list of pages."""
    first, guide = readme.split(FIRST_SCREEN_ENDS)[0], readme.split(GUIDE_STARTS)[1]
    return f"---\nhide: [navigation]\n---\n{first}\n{GUIDE_STARTS}{guide}"


def listed(folder: PurePosixPath) -> list[PurePosixPath]:
    """Return the files and folders in a folder whose content is shown."""
    found = sorted((ROOT / folder).iterdir())
    return [folder / one.name for one in found if one.name not in ("__pycache__", "__init__.py")]


def closure(
    starts: Iterator[tuple[PurePosixPath, str]], read: Callable[[PurePosixPath], str] = content
) -> set[PurePosixPath]:
    """Return all files and folders outside docs/ that can be reached by links from pages.

    Args:
        starts: pages with their Markdown.
    """
    found: set[PurePosixPath] = set()
    waiting = [target for path, text in starts for target in links(text, path)]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            if site_uri(path).suffix == ".md":
                waiting += links(read(path), path)
    return found


def _resolved(link: str, path: PurePosixPath) -> tuple[PurePosixPath | None, str]:
    """Return the file of the repository to which a link on a page leads, and the anchor; None if it stays as it is."""
    if "://" in link or link.startswith(("#", "mailto:")):
        return None, ""
    name, _, anchor = link.partition("#")
    folder = PurePosixPath() if name.startswith("/") else path.parent
    target = PurePosixPath(os.path.normpath(folder / name.removeprefix("/")))
    if (moved := MOVED.get(f"{target}#{anchor}")) is not None:
        return moved, ""
    if not target.is_relative_to(DOCS) and not (ROOT / target).exists():
        raise BrokenLinkError(f"{path}: {link}: there is no {target}")
    return target, anchor


def _without_search(title: str) -> str:
    return f"---\ntitle: {title}\nsearch:\n  exclude: true\n---\n"
