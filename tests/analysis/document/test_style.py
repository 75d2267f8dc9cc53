import re
from xml.etree import ElementTree

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from aimv2.ablations.catalogue import STUDIES
from aimv2.analysis.document.style import INK, looks, save, show_on_hover, style

SVG = "{http://www.w3.org/2000/svg}"
DATA = pd.DataFrame({"x": [1.0, 1 / 3], "label": ["a", "b"]})


def drawn():
    with style():
        figure, axis = plt.subplots(figsize=(3, 2), layout="constrained")
        (line,) = axis.plot([0, 1 / 3, 2], [1, 2, 3], "o")
        show_on_hover(line, 'a "text" with <markup> → 95 %')
        axis.set_title("A title & more")
    return figure


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_arm_has_a_look_of_its_own(study):
    found = looks(study)
    assert set(found) == set(study.conditions)
    assert len(set(found.values())) == len(found)
    assert len({(look.color, look.linestyle) for look in found.values()}) == len(found), "curves have no markers"
    assert found[study.baseline].color == INK


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        save(drawn(), DATA, tmp_path / name, "figure", export=True)
    for end in ("svg", "pdf", "csv"):
        first, second = ((tmp_path / name / f"figure.{end}").read_bytes() for name in ("one", "two"))
        assert first == second
        assert len(first) > 20


def test_look_does_not_depend_on_the_readers_settings(tmp_path):
    save(drawn(), DATA, tmp_path, "usual")
    with plt.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "red"}):
        save(drawn(), DATA, tmp_path, "other")
    assert (tmp_path / "usual.svg").read_text() == (tmp_path / "other.svg").read_text()


def test_svg_has_its_texts_and_titles(tmp_path):
    save(drawn(), DATA, tmp_path, "figure")
    root = ElementTree.fromstring((tmp_path / "figure.svg").read_text())
    assert "A title & more" in [text.text for text in root.iter(f"{SVG}text")]
    assert [title.text for title in root.iter(f"{SVG}title")] == ['a "text" with <markup> → 95 %']
    assert "font-family:'DejaVu Sans',Verdana,sans-serif" in next(root.iter(f"{SVG}style")).text


def test_numbers_are_short_and_places_stay(tmp_path):
    save(drawn(), DATA, tmp_path, "figure")
    text = (tmp_path / "figure.svg").read_text()
    numbers = re.findall(r"-?\d+\.\d+", text)
    assert max(len(number.lstrip("-").replace(".", "").lstrip("0")) for number in numbers) <= 5
    root = ElementTree.fromstring(text)
    marks = [float(use.get("x")) for use in root.iter(f"{SVG}use") if use.get("y")]
    left, middle, right = sorted(marks[-3:])
    assert (middle - left) / (right - left) == pytest.approx((1 / 3) / 2, abs=1e-3)


def test_fonts_in_pdf_are_truetype(tmp_path):
    save(drawn(), DATA, tmp_path, "figure", export=True)
    pdf = (tmp_path / "figure.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf or b"/TrueType" in pdf
    assert b"/Type3" not in pdf


def test_last_digits_of_numbers_do_not_show(tmp_path):
    """Processors add in different orders."""
    for name, noise in (("one", 0.0), ("other", 1e-15)):
        figure, axis = plt.subplots()
        axis.plot([0.1, 0.3 + noise], [0.2, 0.7])
        axis.set_xlim(0.1, 0.5 + noise)
        save(figure, DATA, tmp_path, name)
        plt.close(figure)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()
