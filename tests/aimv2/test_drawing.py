"""Fonts and texts that fit."""

import matplotlib
import numpy as np
from aimv2.base.drawing import enlarged, fitted, font


def test_fonts_are_matplotlibs():
    for style in ("", "-Bold"):
        assert font(12, style).path.startswith(matplotlib.get_data_path())


def test_text_that_is_too_long_loses_its_middle():
    assert fitted("short", 500, 12) == "short"
    text = fitted("the beginning " + "x" * 500 + " the end", 200, 12)
    assert text.startswith("the begin")
    assert text.endswith("the end")
    assert "…" in text
    assert font(12).getlength(text) <= 200


def test_text_is_one_line_that_can_be_encoded():
    assert fitted("two\nlines \udce9", 500, 12) == "two lines ?"


def test_picture_is_enlarged_by_whole_pixels():
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large = np.asarray(enlarged(picture, 7))
    assert large.shape == (8, 8, 3)
    assert (large[::4, ::4] == picture).all()
    assert (large[3, 3] == picture[0, 0]).all()
