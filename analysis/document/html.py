"""A Markdown report as one HTML page that needs no other file."""

import base64
import re
from pathlib import Path

from markdown_it import MarkdownIt

FIGURE = re.compile(r'<p><img src="([^"]+\.svg)" alt="[^"]*" ?/?>\s*(.*?)</p>', re.S)
IMAGE = re.compile(r'src="([^"]+\.png)"')
INTERVAL = re.compile(r"(?:Δ )?(?:[-+]?\d[\d.]* )?\[[-+]?\d[\d.]*, [-+]?\d[\d.]*\]")


def to_html(markdown: str, folder: Path) -> str:
    """Return the body of a page, with figures and images from the folder inlined.

    HTML in the Markdown is escaped, except for line breaks in cells.
    """
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown).replace("&lt;br&gt;", "<br>")
    body = re.sub(r"(\d) %", r"\1&nbsp;%", body)
    body = INTERVAL.sub(r'<span class="number">\g<0></span>', body)
    body = body.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    body = IMAGE.sub(lambda found: f'src="{_inline_png(folder / found[1])}"', body)
    figure = "<figure>{}<figcaption>{}</figcaption></figure>"
    return FIGURE.sub(lambda found: figure.format(_inline_svg(folder / found[1]), found[2]), body)


def _inline_svg(path: Path) -> str:
    """Return the figure's markup without XML header and size, so that the page sets its width.

    Matplotlib repeats ids such as ``clip0`` in every figure, so the file's name is put in front of them.
    """
    text = path.read_text()
    text = text[text.index("<svg") :]
    text = re.sub(r' (width|height)="[^"]*"', "", text, count=2)  # the first two are those of the whole
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{path.stem}-", text)


def _inline_png(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
