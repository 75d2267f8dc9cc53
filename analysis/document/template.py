"""Templates: prose with values, in Jinja and Markdown, as blocks of a document."""

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from aimv2.analysis.document.model import Block, Bullets, Paragraph, code_span
from aimv2.base.errors import escape

ENVIRONMENT = Environment(
    loader=PackageLoader("aimv2.analysis"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
ENVIRONMENT.filters |= {"md": escape, "code": code_span}


def blocks_of(template: str, **values: Any) -> list[Block]:
    """Fill in a template of ``analysis/templates``. Values are escaped by the filter ``md``, or code by ``code``."""
    return parsed(ENVIRONMENT.get_template(f"{template}.md.j2").render(values))


def parsed(text: str) -> list[Block]:
    """Return the paragraphs of a text, and its lists, whose items start with ``- ``; both end at an empty line."""
    return [
        Bullets([_one_line(item) for item in re.split(r"^- ", part, flags=re.M)[1:]])
        if part.startswith("- ")
        else Paragraph(_one_line(part))
        for part in filter(None, map(str.strip, re.split(r"\n\s*\n", text)))
    ]


def _one_line(text: str) -> str:
    return re.sub(r"[ \n]+", " ", text).strip(" ")
