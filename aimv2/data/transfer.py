"""Transfer sets: labelled images on which frozen encoders are probed. Letters: N images, K labels of each."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from aimv2.base import address
from aimv2.config.data_config import SCENES
from aimv2.config.evaluation_config import VALIDATION_SHARE
from aimv2.data.pairs import Joined, Pairs, Selected
from aimv2.data.prepare import Data
from aimv2.data.sources.glyph_pairs import GlyphPairs, concept_position
from aimv2.data.sources.scene import INKS, Scene

NO_LABEL = -1
EMOJI_LABELS = ("subcategory", "category")


class Task(NamedTuple):
    """A classification task, with the class of each of K things in an image, such as its cells, or ``NO_LABEL``."""

    name: str
    num_classes: int
    train_NK: np.ndarray  # int64
    validation_NK: np.ndarray
    test_NK: np.ndarray


class TransferSet(NamedTuple):
    """Images in three splits, and their tasks. Hyper-parameters are chosen on ``validation``, never on ``test``."""

    train: np.ndarray  # uint8 [N, S, S, 3]
    validation: np.ndarray
    test: np.ndarray
    item_N: np.ndarray  # int64, the number of each test image as an evaluation item (``Pairs.items``)
    tasks: tuple[Task, ...]
    is_whole: bool = False  # True if what matters reaches to the border, so that images are resized without a crop


class Tested(NamedTuple):
    """Held-out pairs with their images, uint8 [N, S, S, 3]."""

    pairs: Pairs
    images: np.ndarray


def scenes(train: Pairs, tested: Tested) -> TransferSet | None:
    """Return the tasks on scenes: the object and the ink in each cell, and the number of objects."""
    is_scene_N = np.array([tested.pairs.scene(row) is not None for row in range(len(tested.pairs))], dtype=bool)
    if not is_scene_N.any():
        return None
    # The same array if all are scenes, so that its features are computed once.
    test, images = (
        (tested.pairs, tested.images)
        if is_scene_N.all()
        else (Selected(tested.pairs, np.flatnonzero(is_scene_N)), tested.images[is_scene_N])
    )
    # Their rows are in random order.
    fit, validation = np.split(np.arange(len(train)), [round((1 - VALIDATION_SHARE) * len(train))])
    parts = (Selected(train, fit), Selected(train, validation), test)
    scenes_of = [_scenes(part) for part in parts]
    names = sorted({thing.name for scene in scenes_of[0] for thing in scene.things})
    counts = [np.array([[len(scene.things)] for scene in split], dtype=np.int64) for split in scenes_of]
    most = int(counts[0].max())
    tasks = (
        Task("object", len(names), *(_by_cell(split, "name", names) for split in scenes_of)),
        Task("ink", len(INKS), *(_by_cell(split, "ink", list(INKS)) for split in scenes_of)),
        Task("count", most, *(np.where(count_N1 <= most, count_N1 - 1, NO_LABEL) for count_N1 in counts)),
    )
    train_images, validation_images = (part.images(np.arange(len(part))) for part in parts[:2])
    return TransferSet(train_images, validation_images, images, test.items(np.arange(len(test))), tasks)


def _scenes(pairs: Pairs) -> list[Scene]:
    return [scene for row in range(len(pairs)) if (scene := pairs.scene(row)) is not None]


def _by_cell(scenes: Sequence[Scene], field: Literal["name", "ink"], classes: Sequence[str]) -> np.ndarray:
    """Return the class of the object in each cell: int64 [N, cells]."""
    number = {name: place for place, name in enumerate(classes)}
    label_NK = np.full((len(scenes), scenes[0].grid ** 2), NO_LABEL, dtype=np.int64)
    for label_K, scene in zip(label_NK, scenes, strict=True):
        for thing in scene.things:
            label_K[thing.cell] = number.get(getattr(thing, field), NO_LABEL)
    return label_NK


def emoji(train: GlyphPairs, held_out: GlyphPairs) -> TransferSet | None:
    """Return emoji with their subcategory and category, tested on held-out concepts; None if a split is empty.

    Skin-tone variants are left out, because they are half of all emoji. Classes without a training concept have no
    label.
    """
    known, test = (pairs.where(~pairs.table["is_variant"]) for pairs in (train, held_out))
    # A different hash from that of the training and held-out sides, so that the two splits are independent.
    is_validation = known.table["concept"].map(lambda concept: concept_position(f"probe {concept}")) < VALIDATION_SHARE
    parts = (known.where(~is_validation), known.where(is_validation), test)
    if not all(map(len, parts)):
        return None
    tasks = []
    for label in EMOJI_LABELS:
        classes = sorted(parts[0].table[label].unique())
        number = {name: place for place, name in enumerate(classes)}
        columns = (part.table[label].map(number).fillna(NO_LABEL).to_numpy(dtype=np.int64, copy=True) for part in parts)
        tasks.append(Task(f"emoji_{label}", len(classes), *(label_N[:, None] for label_N in columns)))
    train_images, validation_images, test_images = (part.images(np.arange(len(part))) for part in parts)
    items = test.items(np.arange(len(test)))
    return TransferSet(train_images, validation_images, test_images, items, tuple(tasks))


def digits() -> TransferSet:
    """Return scikit-learn's 1,797 handwritten digits, 8 px: 60 % train, 20 % validation, 20 % test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    order = address.generator(seed=0, purpose="digits split").permutation(len(images))
    cuts = np.split(order, [round(0.6 * len(order)), round(0.8 * len(order))])
    train, validation, test = (np.repeat(images[rows][..., None], 3, axis=-1) for rows in cuts)
    labels = [bunch.target[rows].astype(np.int64)[:, None] for rows in cuts]
    return TransferSet(train, validation, test, np.arange(len(test)), (Task("digits", 10, *labels),), is_whole=True)


def transfer_sets(data: Data, tested: Tested, num_scenes: int) -> list[TransferSet]:
    """Return the tasks of the run's data, and the digits."""
    sets: list[TransferSet | None] = []
    drawn: dict[str, Pairs] = {source: part for source, part in data.train.parts.items() if source.endswith(SCENES)}
    if drawn:
        sets.append(scenes(Joined(drawn).subset(num_scenes), tested))
    if "openmoji" in data.train.parts:
        train, held_out = (side.parts["openmoji"] for side in (data.train, data.held_out))
        assert isinstance(train, GlyphPairs), "openmoji are glyphs"
        assert isinstance(held_out, GlyphPairs), "openmoji are glyphs"
        sets.append(emoji(train, held_out))
    return [transfer_set for transfer_set in (*sets, digits()) if transfer_set is not None]
