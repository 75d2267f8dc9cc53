"""A document on the terminal, and in a folder if one is named: the end of commands on tables of runs."""

import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from aimv2.analysis.document.markdown import to_markdown
from aimv2.analysis.document.model import Document
from aimv2.analysis.document.write import write

WIDTH = 120  # of the output where it is no terminal


def show(document: Document, out: str | None, *, export: bool) -> None:
    """Print a document without its figure, and write it to ``out`` as ``write`` does; errors are those of ``write``."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(Markdown(to_markdown(replace(document, lead=None))))
    if out:
        print(f"report: {write(document, Path(out), export=export)}")
