import base64

import pytest

from analysis.document.html import to_html
from tests.helpers.evidence import PIXEL


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/a.svg").write_text(
        '<?xml version="1.0"?>\n<svg width="4pt" height="2pt" viewBox="0 0 4 2">'
        '<g id="clip0"/><use href="#clip0"/></svg>'
    )
    (tmp_path / "figures/b.png").write_bytes(base64.b64decode(PIXEL))
    return tmp_path


def test_figure_is_inlined_with_its_caption_and_ids_of_its_own(folder):
    page = to_html("![title](figures/a.svg)\nA caption.\n", folder)
    assert page == (
        '<figure><svg viewBox="0 0 4 2"><g id="a-clip0"/><use href="#a-clip0"/></svg>'
        "<figcaption>A caption.</figcaption></figure>\n"
    )


def test_image_in_a_cell_is_inlined(folder):
    page = to_html("| a |\n| --- |\n| ![](figures/b.png) |\n", folder)
    assert f'src="data:image/png;base64,{PIXEL}"' in page


def test_html_is_escaped_except_for_line_breaks(tmp_path):
    page = to_html("| a |\n| --- |\n| one<br>two <script>alert(1)</script> |\n", tmp_path)
    assert "one<br>two" in page
    assert "<script" not in page


def test_intervals_do_not_wrap(tmp_path):
    assert '<span class="number">Δ +0.1 [-0.2, +0.4]</span>' in to_html("Δ +0.1 [-0.2, +0.4]", tmp_path)
