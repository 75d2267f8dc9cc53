"""Sheets, by their pixels."""

import io

import numpy as np
from PIL import Image

from aimv2.tools.sheet import GAP, LINE_PX, MAX_LINES, PADDING, Shown, Word, sheet

WRONG = (0xD5, 0x5E, 0x00)


def pixels(rows, columns=("image",), title="title"):
    return np.asarray(Image.open(io.BytesIO(sheet(rows, title, columns))).convert("RGB"))


def grey(level):
    return np.full((32, 32, 3), level, dtype=np.uint8)


def test_pictures_stand_in_their_columns_and_rows_enlarged_by_whole_pixels():
    rows = [Shown([grey(60), grey(90)], "", []), Shown([grey(120), grey(150)], "", [])]
    image = pixels(rows, ["left", "right"])
    corners = {}
    for level in (60, 90, 120, 150):
        row_N, column_N = np.nonzero((image == level).all(axis=2))
        assert np.ptp(row_N) == np.ptp(column_N) == 4 * 32 - 1
        corners[level] = row_N.min(), column_N.min()
    assert corners[60][0] == corners[90][0] < corners[120][0] == corners[150][0]
    assert corners[60][1] == corners[120][1] < corners[90][1] == corners[150][1]


def test_wrong_words_are_coloured_and_long_captions_cut():
    right, wrong = (
        pixels([Shown([grey(60)], "label", [Word("red", is_right), Word("heart", True)])]) for is_right in (True, False)
    )
    assert right.shape == wrong.shape
    assert [bool((image == WRONG).all(axis=2).any()) for image in (right, wrong)] == [False, True]
    words = [*[Word("word", True)] * 500, Word("x" * 5000, True), Word("two\nlines \udce9", True)]
    one, long = (pixels([Shown([grey(60)], "label" * 500, words[:number])]) for number in (1, None))
    assert long.shape == one.shape
    top = int(np.nonzero((long == 60).all(axis=2))[0].min())
    captions = long[:, PADDING + 128 + GAP :]
    (ink_N,) = np.nonzero((captions[top:] != 255).any(axis=(1, 2)))
    assert LINE_PX * (MAX_LINES + 1) < ink_N.max() < LINE_PX * (MAX_LINES + 2), "two of the label, and at most five"


def test_colours_keep_to_their_words_after_an_ellipsis():
    words = [Word("more…", True), Word("red", False), Word("cat", True)]
    image = pixels([Shown([grey(60)], "label", words)])
    alone = pixels([Shown([grey(60)], "label", words[:2])])
    wrong, expected = ((picture == WRONG).all(axis=2) for picture in (image, alone))
    assert wrong.any()
    assert (wrong == expected).all()
    column_N = np.nonzero(wrong)[1]
    assert np.ptp(column_N) > 2 * (column_N.max() - column_N.min()) / 3, "all three letters"


def test_a_sheet_is_as_wide_as_its_title():
    image = pixels([Shown([grey(60)], "", [])], title="a title " * 20)
    (ink_N,) = np.nonzero((image != 255).any(axis=(0, 2)))
    assert ink_N.max() < image.shape[1] - PADDING
