from hypothesis import given
from hypothesis import strategies as st

from aimv2.data.sources.scene import (
    COUNTS,
    INKS,
    SCENE_QUESTIONS,
    Caption,
    Scene,
    Thing,
    dense_caption,
    largest,
    place,
    questions,
    relation,
)

ALT_TEXT = Caption(("star",), ("object",))
DOWN = {"top": 0, "middle": 1, "bottom": 2}
ACROSS = {"left": 0, "centre": 1, "right": 2}


def thing(name, ink, cell, side=10):
    return Thing(name, ink, cell, side, 0, 0)


def scene(*things, form="places", order=None, grid=2):
    return Scene("material", "yellow", grid, things, order or tuple(range(len(things))), form, ALT_TEXT)


def test_places_caption_names_every_object_in_reading_order():
    caption = dense_caption(scene(thing("rocket", "purple", 0), thing("star", "red", 3)))
    assert caption.text == "on yellow two purple rocket top left red star bottom right"
    assert caption.classes == ("other", "other", "count", *("ink", "object", "place", "place") * 2)


def test_relations_caption_compares_each_object_with_the_next_in_its_own_order():
    shown = scene(thing("rocket", "purple", 0), thing("star", "red", 2), thing("cow", "blue", 3), form="relations")
    caption = dense_caption(shown._replace(order=(2, 1, 0)))
    assert caption.text == "on yellow three blue cow right of red star below purple rocket"
    assert caption.classes[5:7] == ("relation", "relation")
    assert caption.classes[9] == "relation"


@given(one=st.integers(0, 8), other=st.integers(0, 8))
def test_relation_agrees_with_the_words_of_the_places(one, other):
    """An obvious reading of the words: top before middle before bottom, and left before centre before right."""
    (row, column), (other_row, other_column) = (
        map((DOWN | ACROSS).get, place(cell, 3).split()) for cell in (one, other)
    )
    if one == other:
        return
    expected = "above" if row < other_row else "below" if row > other_row else None
    expected = expected or ("left of" if column < other_column else "right of")
    assert relation(thing("a", "red", one), thing("b", "red", other), 3) == expected


def test_largest_of_equal_objects_is_the_first():
    things = thing("rocket", "purple", 0, 9), thing("star", "red", 1, 11), thing("cow", "blue", 3, 11)
    assert largest(things).name == "star"


NAMES = ("star", "rocket", "umbrella", "bug")


@st.composite
def scenes(draw):
    """Scenes of up to four objects, of which several may have one name."""
    grid = draw(st.sampled_from((2, 3)))
    cells = sorted(draw(st.lists(st.integers(0, grid**2 - 1), min_size=1, max_size=4, unique=True)))
    names, inks = st.sampled_from(NAMES), st.sampled_from(list(INKS))
    return scene(*(thing(draw(names), draw(inks), cell) for cell in cells), grid=grid)


def read(scene):
    """Return the objects of a scene, each as its ink, name and place, from the words of its caption."""
    words = dense_caption(scene).words[3:]
    return [tuple(words[start : start + 4]) for start in range(0, len(words), 4)]


def answers(words, objects):
    """Return every true answer to a question about objects; an object is a set of words."""
    if words == ("how", "many"):
        return [(COUNTS[len(objects) - 1],)]
    if words[0] == "ink":
        return [(ink,) for ink, name, *_ in objects if name == words[1]]
    if words[0] == "where":
        return [place for _, name, *place in objects if name == words[1]]
    if words[1] in DOWN:
        return [(name,) for _, name, *place in objects if place == list(words[1:])]
    (down, across), *others = [place for _, name, *place in objects if name == words[-1]]
    assert not others, "the named object is the only one of its name"
    found = []
    for _, name, other_down, other_across in objects:
        below, beyond = DOWN[other_down] - DOWN[down], ACROSS[other_across] - ACROSS[across]
        is_there = {"above": below < 0, "below": below > 0, "left": below == 0 > beyond, "right": below == 0 < beyond}
        if is_there[words[1]]:
            found.append((name,))
    return found


@given(scenes())
def test_every_question_has_one_answer_and_it_is_true(scene):
    found = questions(scene)
    for kind, words, answer in found:
        assert kind in SCENE_QUESTIONS
        assert [tuple(true) for true in answers(words, read(scene))] == [answer]
    assert len({question.words for question in found}) == len(found)


@given(scenes())
def test_all_that_can_be_asked_is_asked(scene):
    objects = read(scene)
    asked = {question.words for question in questions(scene)}
    single = [name for _, name, *_ in objects if [other for _, other, *_ in objects].count(name) == 1]
    expected = {("how", "many"), *(("what", *place) for _, _, *place in objects)}
    expected |= {(word, name) for name in single for word in ("ink", "where")}
    for name in single:
        related = [("what", *word.split(), name) for word in ("above", "below", "left of", "right of")]
        expected |= {words for words in related if len(answers(words, objects)) == 1}
    assert asked == expected
