from hypothesis import given
from hypothesis import strategies as st

from aimv2.data.sources.scene import Caption, Scene, Thing, dense_caption, largest, place, relation
from tests.helpers.scenes import OPPOSITE

ALT_TEXT = Caption(("star",), ("object",))


def thing(name, ink, cell, side=10):
    return Thing(name, ink, cell, side, 0, 0)


def scene(*things, form="places", order=None, grid=2):
    return Scene("material", "yellow", grid, things, order or tuple(range(len(things))), form, ALT_TEXT)


def test_places_caption_names_every_object_in_reading_order():
    caption = dense_caption(scene(thing("rocket", "purple", 0), thing("star", "red", 3)))
    assert caption.text == "on yellow two purple rocket top left red star bottom right"
    assert caption.classes == (
        *("other", "other", "count"),
        *("ink", "object", "place", "place"),
        *("ink", "object", "place", "place"),
    )


def test_relations_caption_compares_each_object_with_the_next_in_its_own_order():
    shown = scene(thing("rocket", "purple", 0), thing("star", "red", 2), thing("cow", "blue", 3), form="relations")
    caption = dense_caption(shown._replace(order=(2, 1, 0)))
    assert caption.text == "on yellow three blue cow right of red star below purple rocket"
    assert caption.classes[5:7] == ("relation", "relation")
    assert caption.classes[9] == "relation"


@given(one=st.integers(0, 8), other=st.integers(0, 8))
def test_relation_reversed_is_its_opposite(one, other):
    if one != other:
        first, second = thing("a", "red", one), thing("b", "red", other)
        assert relation(first, second, 3) == OPPOSITE[relation(second, first, 3)]


@given(one=st.integers(0, 8), other=st.integers(0, 8))
def test_relation_agrees_with_the_words_of_the_places(one, other):
    """An obvious reading of the words: top before middle before bottom, and left before centre before right."""
    order = {
        word: number
        for words in (("top", "middle", "bottom"), ("left", "centre", "right"))
        for number, word in enumerate(words)
    }
    (row, column), (other_row, other_column) = (map(order.get, place(cell, 3).split()) for cell in (one, other))
    if one == other:
        return
    expected = "above" if row < other_row else "below" if row > other_row else None
    expected = expected or ("left of" if column < other_column else "right of")
    assert relation(thing("a", "red", one), thing("b", "red", other), 3) == expected


def test_largest_of_equal_objects_is_the_first():
    things = thing("rocket", "purple", 0, 9), thing("star", "red", 1, 11), thing("cow", "blue", 3, 11)
    assert largest(things).name == "star"
