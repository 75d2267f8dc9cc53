import pandas as pd
from analysis.document.style import GRID, INK, PAPER, SOFT
from matplotlib.figure import Figure as Picture

from analysis.document.html_figures import data_fold, inline_svg
from analysis.document.model import Figure


def figure(data):
    return Figure("name", "alt", "A caption.", Picture(), pd.DataFrame(data))


def test_data_are_escaped_and_short():
    shown = data_fold(figure({"arm": ["<b>", "c"], "mean": [0.123456789, float("nan")]}))
    assert "<tr><td>&lt;b&gt;</td><td>0.12346</td></tr>\n<tr><td>c</td><td></td></tr>" in shown
    assert all(f'href="figures/name.{end}"' in shown for end in ("csv", "svg", "pdf"))


def test_long_data_are_cut_and_say_so():
    shown = data_fold(figure({"n": range(1000)}))
    assert "The first 300 of 1000 rows." in shown
    assert "<td>299</td>" in shown
    assert "<td>300</td>" not in shown


def test_ids_and_references_get_the_prefix():
    svg = '<svg width="4pt" height="2pt"><clipPath id="p"/><g clip-path="url(#p)"><use xlink:href="#p"/></g></svg>'
    shown = inline_svg(svg, "f1-", "alt")
    assert '<clipPath id="f1-p"/><g clip-path="url(#f1-p)"><use xlink:href="#f1-p"/>' in shown


def test_width_becomes_a_hint_and_the_text_an_attribute():
    shown = inline_svg('<?xml?>\n<svg width="374.4pt" height="2pt"><rect width="7"/></svg>', "f1-", 'say "<hi>"')
    assert shown.startswith('<svg role="img" aria-label="say &quot;&lt;hi&gt;&quot;" style="--width: 374pt">')
    assert '<rect width="7"/>' in shown


def test_colours_of_the_page_replace_those_of_the_file():
    colours = "".join(f'<path style="fill: {colour}"/>' for colour in (INK, SOFT, GRID, PAPER, "#0173b2"))
    shown = inline_svg(f"<svg>{colours}</svg>", "f1-", "")
    fills = ["currentColor", "var(--soft)", "var(--line)", "var(--paper)", "#0173b2"]
    assert shown.count("fill: ") == len(fills)
    assert all(f"fill: {fill}" in shown for fill in fills)
