"""What models are asked about held-out pairs: choices between two captions, and questions to a reader, as tokens.

A choice is between the true caption and a hard negative, by likelihood. Every kind of negative is as likely as the true
caption if the image is not known, so that a model without the image is at chance (SugarCrepe, arXiv 2306.14610, shows
what happens otherwise):

- ``objects``, ``inks``: two objects of the scene, or their inks, change places. Scenes draw inks independently, and put
  objects into cells at random. What is not drawn independently is which compositions are held out, so the negative's
  composition must be held out too; its hash then says nothing about which of the two is true. With three objects the
  two may admit different numbers of swaps, so the odds are only nearly one to one.
- ``relations``: every above becomes below, or every left of right of, and the reverse: the caption of the mirrored
  scene, which has the same composition and is drawn equally often.
- ``counts``: another count. All counts are asked about equally often, although more compositions of one number of
  objects may be held out than of another. Only the count word is compared, because the rest of the caption shows the
  number of objects.

Letters: N pairs, M choices or questions, T caption tokens.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aimv2.base import address
from aimv2.base.errors import BadSampleError
from aimv2.data.pairs import Pairs
from aimv2.data.sources.scene import (
    COUNTS,
    SCENE_QUESTIONS,
    Caption,
    Question,
    Scene,
    WordClass,
    caption,
    dense_caption,
)
from aimv2.data.sources.scenes import composition, is_held_out
from aimv2.definitions.items import Items
from aimv2.definitions.metrics import CHOICE_KINDS
from aimv2.evaluation.held_out import Captions, Words, prepare_captions

COUNT_SHARE = 1 / 3  # of the scenes with the rarest number of objects get a choice of counts


class Negative(NamedTuple):
    """A caption that is false for the image of a row."""

    row: int
    kind: str
    caption: Caption


@dataclass(frozen=True)
class Choices:
    """Negatives as tokens; ``row_M`` (int64) and ``kind_M`` are their images and kinds."""

    captions: Captions
    row_M: np.ndarray
    kind_M: np.ndarray

    def __len__(self) -> int:
        return len(self.row_M)

    def first(self, num_images: int) -> "Choices":
        row_C = np.flatnonzero(self.row_M < num_images)
        return Choices(self.captions.rows(row_C), self.row_M[row_C], self.kind_M[row_C])


def prepare_choices(negatives: Sequence[Negative], words: Words) -> Choices:
    return Choices(
        prepare_captions([negative.caption for negative in negatives], words),
        np.array([negative.row for negative in negatives], dtype=np.int64),
        np.array([negative.kind for negative in negatives], dtype=object),
    )


def hard_negatives(scenes: Sequence[Scene | None], max_objects: int, held_out_fraction: float) -> list[Negative]:
    """Return the hard negatives of held-out scenes: one of each kind that a scene admits; None has none.

    Of several negatives of a kind a fixed random one is used. Counts are changed in about a third of the scenes, so
    that the kinds are about equally frequent, and in equally many of each number of objects.
    """
    negatives: list[Negative] = []
    numbers = Counter(len(scene.things) for scene in scenes if scene is not None)
    draw_NK = address.generator(seed=0, purpose="choices").random((len(scenes), len(CHOICE_KINDS)))
    for row, (scene, (share, *draws)) in enumerate(zip(scenes, draw_NK.tolist(), strict=True)):
        if scene is None:
            continue
        for (kind, captions), draw in zip(swaps(scene, held_out_fraction).items(), draws, strict=True):
            if captions:
                negatives.append(Negative(row, kind, captions[int(draw * len(captions))]))
        number = len(scene.things)
        share_of_number = COUNT_SHARE * min(numbers.values()) / numbers[number]
        if share < share_of_number and max_objects > 1:
            others = [count for count in COUNTS[:max_objects] if count != COUNTS[number - 1]]
            count = others[int(share / share_of_number * len(others))]
            negatives.append(Negative(row, "counts", _counted(scene, count)))
    return negatives


def swaps(scene: Scene, held_out_fraction: float) -> dict[str, list[Caption]]:
    """Return every hard negative of a scene but those of counts, by kind."""
    pairs = list(combinations(range(len(scene.things)), 2))
    changed = {
        "objects": [_swapped(scene, *pair, "name") for pair in pairs],
        "inks": [_swapped(scene, *pair, "ink") for pair in pairs],
        "relations": [mirrored(scene, axis) for axis in (0, 1)] if scene.form == "relations" else [],
    }
    true = dense_caption(scene)
    captions = {
        kind: [dense_caption(other) for other in others if is_held_out(composition(other), held_out_fraction)]
        for kind, others in changed.items()
    }
    return {kind: [other for other in others if other != true] for kind, others in captions.items()}


def _counted(scene: Scene, count: str) -> Caption:
    """Return the caption up to its count, with another count."""
    words, classes = dense_caption(scene)
    place = classes.index("count")
    return Caption((*words[:place], count), classes[: place + 1])


def _swapped(scene: Scene, first: int, second: int, field: str) -> Scene:
    things = list(scene.things)
    for place, source in ((first, second), (second, first)):
        things[place] = things[place]._replace(**{field: getattr(scene.things[source], field)})
    return scene._replace(things=tuple(things))


def mirrored(scene: Scene, axis: int) -> Scene:
    """Exchange top and bottom (axis 0) or left and right (axis 1) of what the caption says of a scene."""
    cells = []
    for thing in scene.things:
        place = list(divmod(thing.cell, scene.grid))
        place[axis] = scene.grid - 1 - place[axis]
        cells.append(place[0] * scene.grid + place[1])
    in_reading_order = sorted(range(len(cells)), key=cells.__getitem__)
    things = tuple(scene.things[number]._replace(cell=cells[number]) for number in in_reading_order)
    return scene._replace(things=things, order=tuple(in_reading_order.index(number) for number in scene.order))


def outcomes(dense_nats_NT: Tensor, dense: Captions, negative_nats_MT: Tensor, choices: Choices) -> np.ndarray:
    """Return 1 where the true caption is likelier than the negative, 0 where it is not, 0.5 for ties: float64 [M]."""
    true_nats_M = _compared(dense_nats_NT[choices.row_M], dense.rows(choices.row_M), choices.kind_M)
    false_nats_M = _compared(negative_nats_MT, choices.captions, choices.kind_M)
    outcome_M: np.ndarray = 0.5 * (1 + np.sign(false_nats_M - true_nats_M))
    return outcome_M


def _compared(nats_MT: Tensor, captions: Captions, kind_M: np.ndarray) -> np.ndarray:
    """Return the cross-entropy of the tokens that a choice compares: float64 [M]."""
    is_count_M1 = torch.from_numpy(kind_M == "counts")[:, None]
    compared_MT = torch.where(is_count_M1, captions.of_class("count"), captions.supervised_NT)
    nats_M: np.ndarray = (nats_MT.double() * compared_MT).sum(dim=1).numpy()
    return nats_M


def choice_items(outcome_M: np.ndarray, choices: Choices, item_N: np.ndarray) -> dict[str, Items]:
    """Return the accuracy of all choices, by the name "", and of each kind, by ``_<kind>``."""
    item_M = item_N[choices.row_M]
    chosen = {f"_{kind}": choices.kind_M == kind for kind in CHOICE_KINDS}
    of_kinds = {name: Items.of(item_M[is_kind_M], outcome_M[is_kind_M]) for name, is_kind_M in chosen.items()}
    return {"": Items.of(item_M, outcome_M), **of_kinds}


@dataclass(frozen=True)
class Asked:
    """Questions with their answers.

    Attributes:
        captions: each question, its answer and end-of-text; the last two are supervised.
        row_M: int64, the pair of each, ascending.
        kind_M, answer_M: its kind and the text of its answer.
        num_left_out: questions that are longer than the reader reads, and pairs whose questions are broken.
    """

    captions: Captions
    row_M: np.ndarray
    kind_M: np.ndarray
    answer_M: np.ndarray
    num_left_out: int

    def __len__(self) -> int:
        return len(self.row_M)

    def rows(self, row_K: np.ndarray) -> "Asked":
        kept = (self.captions.rows(row_K), self.row_M[row_K], self.kind_M[row_K], self.answer_M[row_K])
        return Asked(*kept, self.num_left_out)

    def about_one_image(self) -> "Asked":
        """Return the same questions about the image of row 0."""
        return replace(self, row_M=np.zeros_like(self.row_M))


def prepare_questions(pairs: Pairs, words: Words, most: int | None = None) -> Asked:
    """Return the questions about pairs: of a scene a fixed random one of each kind, of pairs in files all.

    A question that does not fit ``words.max_tokens`` with its answer and end-of-text is left out. After ``most``
    questions no further pair is asked about.
    """
    chosen: list[tuple[int, Question]] = []
    num_broken = 0
    draw_NK = address.generator(seed=0, purpose="questions").random((len(pairs), len(SCENE_QUESTIONS)))
    for row, draws in enumerate(draw_NK.tolist()):
        if most is not None and len(chosen) >= most:
            break
        try:
            questions = pairs.questions(row)
        except BadSampleError:
            num_broken += 1
            continue
        chosen += [(row, question) for question in questions if question.kind == "own"]
        for kind, draw in zip(SCENE_QUESTIONS, draws, strict=True):
            if of_kind := [question for question in questions if question.kind == kind]:
                chosen.append((row, of_kind[int(draw * len(of_kind))]))
    sequences = [_sequence(question) for _, question in chosen]
    captions = prepare_captions(sequences, words)
    num_bytes_M = torch.tensor([len(sequence.text.encode()) for sequence in sequences], dtype=torch.int64)
    fits_M = (captions.num_bytes_N == num_bytes_M).numpy()
    is_end_MT = torch.arange(captions.token_NT.shape[1]) == captions.text_len_N[:, None] - 1
    captions = replace(captions, supervised_NT=captions.of_class("word") | is_end_MT)
    asked = Asked(
        captions,
        np.array([row for row, _ in chosen], dtype=np.int64),
        np.array([question.kind for _, question in chosen], dtype=object),
        np.array([" ".join(question.answer) for _, question in chosen], dtype=object),
        num_left_out=num_broken + int((~fits_M).sum()),
    )
    return asked.rows(np.flatnonzero(fits_M))


def _sequence(question: Question) -> Caption:
    """Return a question and its answer as one text; the words of the answer are of the class ``word``."""
    words: list[tuple[str, WordClass]] = [(word, "other") for word in question.words]
    return caption([*words, *((word, "word") for word in question.answer)])
