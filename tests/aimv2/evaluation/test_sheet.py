"""Sheets, by their pixels."""

import io

import numpy as np
from PIL import Image

from aimv2.evaluation.sheet import Shown, Word, comparison, enlarged, fitted, font, sheet

WRONG = (0xD5, 0x5E, 0x00)


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def grey(level):
    return np.full((32, 32, 3), level, dtype=np.uint8)


def has(image, colour):
    return bool((image == colour).all(axis=2).any())


def test_pictures_stand_in_their_columns_and_rows():
    rows = [Shown([grey(60), grey(90)], {}), Shown([grey(120), grey(150)], {})]
    image = pixels(sheet(rows, "title", ["left", "right"]))
    corners = {}
    for level in (60, 90, 120, 150):
        row_N, column_N = np.nonzero((image == level).all(axis=2))
        assert np.ptp(row_N) == np.ptp(column_N) == 4 * 32 - 3, "four times as large, within an outline"
        corners[level] = row_N.min(), column_N.min()
    assert corners[60][0] == corners[90][0] < corners[120][0] == corners[150][0]
    assert corners[60][1] == corners[120][1] < corners[90][1] == corners[150][1]


def test_wrong_words_are_coloured():
    right, wrong = (
        pixels(sheet([Shown([grey(60)], comparison("a red heart", written))], "title", ["image"]))
        for written in ("a red heart", "a blue heart")
    )
    assert not has(right, WRONG)
    assert has(wrong, WRONG)
    assert right.shape == wrong.shape


def test_captions_take_a_column_of_their_own():
    without, with_one = (
        pixels(sheet([Shown([grey(60)], captions)], "t", ["image"])) for captions in ({}, comparison("a", "b"))
    )
    assert with_one.shape[1] > without.shape[1] + 300
    long = pixels(
        sheet(
            [Shown([grey(60)], {"label" * 500: [*[Word("word", True)] * 500, Word("x" * 5000, True)]})], "t", ["image"]
        )
    )
    assert long.shape[1] == with_one.shape[1]
    assert long.shape[0] < 2 * with_one.shape[0], "a long caption is cut"


def test_words_are_compared_in_order():
    _, found = comparison("a red heart left of a green leaf", "a red leaf left of a heart").values()
    assert found == [
        Word("a", True), Word("red", True), Word("leaf", False), Word("left", True), Word("of", True),
        Word("a", True), Word("heart", False),
    ]  # fmt: skip


def test_text_that_is_too_long_loses_its_end():
    assert fitted("two\nlines \udce9", 500, 12) == "two lines ?"
    text = fitted("the beginning " + "x" * 500 + " the end", 200, 12)
    assert text.startswith("the begin")
    assert text.endswith("x…")
    assert font(12).getlength(text) <= 200


def test_picture_is_enlarged_by_whole_pixels():
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large = np.asarray(enlarged(picture, 7))
    assert large.shape == (8, 8, 3)
    assert (large[::4, ::4] == picture).all()
    assert (large[3, 3] == picture[0, 0]).all()
