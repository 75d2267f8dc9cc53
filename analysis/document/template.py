"""Templates: prose with values, in Jinja and Markdown, as blocks of a document."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from aimv2.analysis.document.model import Block, Bullets, Paragraph, Section, code_span
from aimv2.base.markdown import escape

ENVIRONMENT = Environment(
    loader=PackageLoader("aimv2.analysis"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
ENVIRONMENT.filters |= {"md": escape, "code": code_span}


def blocks_of(template: str, named: Mapping[str, Block] | None = None, /, **values: Any) -> list[Block]:
    """Fill in a template of ``analysis/templates`` and return it as blocks.

    Empty lines separate paragraphs, in which line breaks are spaces. Paragraphs that start with ``## `` are headings of
    sections, those that start with ``- `` are lists, and ``{name}`` is the block of that name. Values in their text are
    escaped by the filter ``md``, or become code by ``code``.

    Args:
        named: blocks by name, of which the template may use some; it refers to all as ``named``.
        values: what else the template refers to.
    """
    named = named or {}
    text = ENVIRONMENT.get_template(f"{template}.md.j2").render(values, named=named)
    top: list[Block] = []
    current = top
    for block in _parsed(text, named):
        if isinstance(block, Section):
            top.append(block)
            current = block.blocks
        else:
            current.append(block)
    return top


def one_line(text: str) -> str:
    """Return text with single spaces in place of line breaks and spaces."""
    return re.sub(r"[ \n]+", " ", text).strip(" ")


def _parsed(text: str, named: Mapping[str, Block]) -> Iterator[Block]:
    """Yield the blocks in their order; sections are still empty."""
    for part in filter(None, map(str.strip, re.split(r"\n\s*\n", text))):
        if name := re.fullmatch(r"\{(\w+)\}", part):
            yield named[name[1]]
        elif part.startswith("## "):
            yield Section(part.removeprefix("## "), [])
        elif part.startswith("- "):
            yield Bullets([one_line(item) for item in re.split(r"^- ", part, flags=re.M)[1:]])
        else:
            yield Paragraph(one_line(part))
