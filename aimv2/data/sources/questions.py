"""Questions about pictures, in few words, and those that a scene answers. Nothing here draws a random number."""

from collections import Counter
from typing import Literal, NamedTuple

from aimv2.data.sources.scene import COUNTS, RELATIONS, Scene, place, relation

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
    found = [Question("count", ("how", "many"), (COUNTS[len(scene.things) - 1],))]
    for thing in scene.things:
        cell = tuple(place(thing.cell, scene.grid).split())
        found.append(Question("object", ("what", *cell), (thing.name,)))
        if num_named[thing.name] > 1:
            continue
        found.append(Question("ink", ("ink", thing.name), (thing.ink,)))
        found.append(Question("place", ("where", thing.name), cell))
        related: dict[str, list[str]] = {name: [] for name in RELATIONS}
        for other in scene.things:
            if other.cell != thing.cell:
                related[relation(other, thing, scene.grid)].append(other.name)
        found += [
            Question("relation", ("what", *name.split(), thing.name), (others[0],))
            for name, others in related.items()
            if len(others) == 1
        ]
    return found
