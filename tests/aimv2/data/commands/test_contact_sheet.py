import numpy as np
from aimv2.tools.data.contact_sheet import MAX_LINES, Cell, Piece, sheet


def cell(pieces, **changes):
    image = np.full((32, 32, 3), 100, dtype=np.uint8)
    values = {
        "source": "mine", "kind": "short", "key": "a key", "place": 3, "epoch": 0, "prefix_len": 1, "image": image,
        "target": None, "in_prefix_GG": np.array([[True, False], [False, False]]), "pieces": pieces,
    }  # fmt: skip
    return Cell(**(values | changes))


def words(*texts, **marks):
    marks = {"is_unknown": False, "is_truncated": False} | marks
    return [Piece(text, True, **marks) for text in texts]


def test_patches_outside_of_the_prefix_are_dimmed():
    (left, top), pixels = _picture(sheet([cell([])], ["title"], has_prefix=True))
    assert pixels[top + 20, left + 20].tolist() == [100, 100, 100]
    assert pixels[top + 200, left + 200].tolist() == [255 - 155 // 3] * 3


def _picture(image):
    """Return the corner of the picture, whose outline is the first line of its colour, and all pixels."""
    pixels = np.asarray(image)
    rows, columns = np.nonzero((pixels == (0xD9, 0xDD, 0xE2)).all(axis=2))
    return (columns.min(), rows.min()), pixels


def test_cells_are_placed_in_rows_of_four():
    one = sheet([cell([])], ["title"], has_prefix=True)
    four, five = (sheet([cell([])] * number, ["title"], has_prefix=True) for number in (4, 5))
    assert four.height == one.height
    assert five.width == four.width > 3 * 256
    assert five.height > four.height + 256


def test_targets_stand_beside_the_picture():
    target = np.full((32, 32, 3), 7, dtype=np.uint8)
    (left, top), pixels = _picture(sheet([cell([], target=target)], ["title"], has_prefix=True))
    assert pixels[top + 128, left + 256 + 8 + 128].tolist() == [7, 7, 7]


def test_unknown_and_truncated_tokens_have_their_colours():
    marked = words("moon", is_unknown=True) + words("star", is_truncated=True)
    pictures = [np.asarray(sheet([cell(found)], ["title"], has_prefix=True)) for found in (marked, words("a"))]
    for colour in ((0xFB, 0xD5, 0xC0), (0xF2, 0xF2, 0xF2)):
        areas = [(pixels == colour).all(axis=2).sum() for pixels in pictures]
        assert areas[0] > areas[1] + 200


def test_long_captions_and_keys_do_not_widen_or_lengthen_the_sheet_without_end():
    plain = sheet([cell(words("a"))], ["title"], has_prefix=True)
    long = sheet([cell(words(*["word"] * 5000), key="k" * 5000, source="\ud800" * 9)], ["title"], has_prefix=True)
    assert long.width == plain.width
    assert long.height < plain.height + 30 * MAX_LINES
