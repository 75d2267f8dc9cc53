"""What a scene shows, and the captions that say so. Nothing here draws a random number or a pixel."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

# "word" is a content word of a caption whose words have no finer classes.
WordClass = Literal["object", "ink", "place", "relation", "count", "other", "word"]
SCENE_CLASSES: tuple[WordClass, ...] = ("object", "ink", "place", "relation", "count")
CONTENT_CLASSES: tuple[WordClass, ...] = (*SCENE_CLASSES, "word")  # what an image decides

INKS = {
    "black": (20, 20, 20),
    "red": (205, 40, 40),
    "orange": (225, 110, 15),
    "green": (25, 125, 60),
    "teal": (0, 125, 130),
    "blue": (35, 80, 200),
    "purple": (115, 45, 160),
    "brown": (115, 70, 35),
}
PAPERS = {
    "white": (255, 255, 255),
    "grey": (214, 214, 214),
    "yellow": (255, 236, 150),
    "pink": (255, 205, 215),
    "mint": (200, 242, 214),
    "sky": (200, 228, 255),
}
COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RELATIONS = ("above", "below", "left of", "right of")
ROWS = {2: ("top", "bottom"), 3: ("top", "middle", "bottom")}
COLUMNS = {2: ("left", "right"), 3: ("left", "centre", "right")}
NOISE = ("free", "stock", "download", "photo", "best", "click", "image", "new")  # words of alt-text that say nothing
RESERVED = frozenset(
    word
    for words in (
        INKS,
        PAPERS,
        COUNTS,
        NOISE,
        *(relation.split() for relation in RELATIONS),
        *ROWS.values(),
        *COLUMNS.values(),
    )
    for word in words
) | {"on"}  # no object has such a name


class Caption(NamedTuple):
    """A caption as words, each with its class. Words are clean: lower case, without punctuation or white space."""

    words: tuple[str, ...]
    classes: tuple[WordClass, ...]

    @property
    def text(self) -> str:
        return " ".join(self.words)


class Thing(NamedTuple):
    name: str  # word of the caption, as ``ink``
    ink: str
    cell: int  # place in the grid, in reading order
    side: int  # of its square in px, whose corner is at ``top`` and ``left``
    top: int
    left: int
    size: int = 0  # number of its size, from 0, whatever the resolution


class Scene(NamedTuple):
    """A picture of one or more objects on a paper."""

    source: str  # of its objects' pictures
    paper: str
    grid: int  # cells along a side
    things: tuple[Thing, ...]  # the objects in reading order, at most one in a cell
    order: tuple[int, ...]  # the order in which the relations form names them
    # The dense caption names each object's cell, or, with two objects or more, compares each object with the next.
    form: Literal["places", "relations"]
    alt_text: Caption  # the short caption
    composition: Literal["inks", "looks"] = "inks"  # what its composition is (``SceneConfig.composition``)


def largest(things: Sequence[Thing]) -> Thing:
    """Return the largest object; of several, the first."""
    return max(things, key=lambda thing: thing.side)


def dense_caption(scene: Scene) -> Caption:
    """Return the caption that names every object with its ink, and its place or its relation to the next one.

    ``on yellow two red star below purple rocket``, or ``on yellow two purple rocket top left red star bottom right``.
    The paper comes first, so that no word of content has to tell a dense caption from a short one.
    """
    words: list[tuple[str, WordClass]] = [
        ("on", "other"),
        (scene.paper, "other"),
        (COUNTS[len(scene.things) - 1], "count"),
    ]
    if scene.form == "places":
        for thing in scene.things:
            words += [(thing.ink, "ink"), (thing.name, "object")]
            words += [(word, "place") for word in place(thing.cell, scene.grid).split()]
    else:
        ordered = [scene.things[number] for number in scene.order]
        for number, thing in enumerate(ordered):
            words += [(thing.ink, "ink"), (thing.name, "object")]
            if number + 1 < len(ordered):
                words += [(word, "relation") for word in relation(thing, ordered[number + 1], scene.grid).split()]
    return caption(words)


def caption(words: Sequence[tuple[str, WordClass]]) -> Caption:
    return Caption(tuple(word for word, _ in words), tuple(kind for _, kind in words))


def place(cell: int, grid: int) -> str:
    """Return the words for a cell, such as ``top left``."""
    row, column = divmod(cell, grid)
    return f"{ROWS[grid][row]} {COLUMNS[grid][column]}"


def relation(one: Thing, other: Thing, grid: int) -> str:
    """Return where one object is relative to another: above or below if their rows differ, else left or right of it."""
    (row, column), (other_row, other_column) = divmod(one.cell, grid), divmod(other.cell, grid)
    if row != other_row:
        return "above" if row < other_row else "below"
    return "left of" if column < other_column else "right of"


# "place" points at an object; "own" are questions of pairs in files.
QuestionKind = Literal["object", "ink", "count", "relation", "place", "own"]
ANSWERED: tuple[QuestionKind, ...] = ("object", "ink", "count", "relation")  # by a word that names what is seen
SCENE_QUESTIONS: tuple[QuestionKind, ...] = (*ANSWERED, "place")


class Question(NamedTuple):
    """A question and its only answer, as clean words (``Caption``)."""

    kind: QuestionKind
    words: tuple[str, ...]
    answer: tuple[str, ...]


def questions(scene: Scene) -> list[Question]:
    """Return every question about a scene that has exactly one answer, with the words of its captions.

    ======== ====================== ==============
    object   what top left          rocket
    ink      ink rocket             purple
    count    how many               two
    relation what below rocket      star
    place    where rocket           top left
    ======== ====================== ==============

    An object is asked about by its name if no other has it, and by a relation if no other object is so related.
    """
    num_named = Counter(thing.name for thing in scene.things)
    asked = [Question("count", ("how", "many"), (COUNTS[len(scene.things) - 1],))]
    for thing in scene.things:
        cell = tuple(place(thing.cell, scene.grid).split())
        asked.append(Question("object", ("what", *cell), (thing.name,)))
        if num_named[thing.name] > 1:
            continue
        asked.append(Question("ink", ("ink", thing.name), (thing.ink,)))
        asked.append(Question("place", ("where", thing.name), cell))
        related: dict[str, list[str]] = {name: [] for name in RELATIONS}
        for other in scene.things:
            if other.cell != thing.cell:
                related[relation(other, thing, scene.grid)].append(other.name)
        asked += [
            Question("relation", ("what", *name.split(), thing.name), (others[0],))
            for name, others in related.items()
            if len(others) == 1
        ]
    return asked
