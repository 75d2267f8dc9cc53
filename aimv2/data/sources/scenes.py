"""Scenes: pictures composed of glyphs, in any number. Each is a pure function of the config, the side and its number.

What is held out are compositions, the sets of objects with their inks, or with their places and sizes too: training
shows every object and every ink of the held-out scenes, in other combinations. A second held-out set has objects that
training never shows.

The compositional split follows CLEVR's CoGenT (arXiv 1612.06890).
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from aimv2.base import address
from aimv2.base.errors import UsageError
from aimv2.config.data_config import DataConfig, SceneConfig
from aimv2.data.pairs import CaptionKind, Pairs, Sides
from aimv2.data.sources import glyphs
from aimv2.data.sources.glyphs import RENDER_PX, Glyph, are_near, shape
from aimv2.data.sources.scene import (
    INKS,
    NOISE,
    PAPERS,
    RESERVED,
    Caption,
    Scene,
    Thing,
    WordClass,
    caption,
    dense_caption,
    largest,
)

UNSEEN_SHARE = 0.2  # share of all names that no training scene shows
NUM_SIZES = 4  # different sizes of an object in a picture
NUM_HELD_OUT = 100_000
MAX_ATTEMPTS = 5000

Side = Literal["train", "held_out", "unseen"]


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of a side, most frequent first, and how to draw a scene of them."""

    source: str
    side: Side
    config: SceneConfig
    px: int
    held_out_fraction: float
    glyphs: dict[str, Glyph]
    log_weight_O: np.ndarray = field(init=False)  # of Zipf's law

    def __post_init__(self) -> None:
        rank_O = np.arange(1, len(self.glyphs) + 1)
        object.__setattr__(self, "log_weight_O", -self.config.zipf * np.log(rank_O))


class Scenes(Pairs):
    """The scenes of a side, drawn when they are read."""

    def __init__(self, objects: Objects, num_rows: int) -> None:
        self._objects = objects
        self._num_rows = num_rows
        self._first_id = address.hash64(f"scenes {objects.source} {objects.side}") >> 2
        self._masks: dict[tuple[str, int], np.ndarray] = {}

    def __len__(self) -> int:
        return self._num_rows

    def keys(self, row_B: np.ndarray) -> list[str]:
        return [f"{self._objects.source}-{self._objects.side}-{row}" for row in row_B.tolist()]

    def sample_ids(self, row_B: np.ndarray) -> np.ndarray:
        return np.asarray(self._first_id + row_B)

    def items(self, row_B: np.ndarray) -> np.ndarray:
        """Scenes of one composition are one item: there are few compositions of a single object."""
        return np.array([address.hash64(composition(self.scene(row))) >> 1 for row in row_B.tolist()], dtype=np.int64)

    def scene(self, row: int) -> Scene:
        return draw_scene(self._objects, int(row))

    def caption(self, row: int, kind: CaptionKind, choice: float = 0.0) -> Caption:
        scene = self.scene(row)
        return scene.alt_text if kind == "short" else dense_caption(scene)

    def picture(self, row: int) -> np.ndarray:
        scene, px = self.scene(row), self._objects.px
        image_SSC = np.empty((px, px, 3), dtype=np.uint8)
        image_SSC[:] = PAPERS[scene.paper]
        for thing in scene.things:
            square = image_SSC[thing.top : thing.top + thing.side, thing.left : thing.left + thing.side]
            ink = np.array(INKS[thing.ink], dtype=np.int16)
            # Integers round as floats do here, and are the same on every machine.
            square[:] = square + ((ink - square) * self._mask(thing.name, thing.side) + 127) // 255
        return image_SSC

    def drawn_at(self, px: int) -> "Scenes":
        return Scenes(replace(self._objects, px=px), self._num_rows)

    def _mask(self, name: str, side: int) -> np.ndarray:
        """Return how much ink each pixel of an object gets: int32 [side, side, 1], 0..255."""
        if (name, side) not in self._masks:
            self._masks[name, side] = self._objects.glyphs[name].mask(side).astype(np.int32)[..., None]
        return self._masks[name, side]


def open_scenes(source: str, config: DataConfig) -> Sides:
    scenes = config.scenes
    seen, unseen = vocabulary(source, scenes)

    def side(name: Side, objects: dict[str, Glyph], num_rows: int) -> Scenes:
        return Scenes(
            Objects(source, name, scenes, config.render_px, config.held_out_fraction, objects), num_rows=num_rows
        )

    return Sides(
        side("train", seen, scenes.num_scenes),
        side("held_out", seen, NUM_HELD_OUT),
        side("unseen", unseen, NUM_HELD_OUT),
    )


@lru_cache(maxsize=16)  # near copies take a while to find
def vocabulary(source: str, config: SceneConfig) -> tuple[dict[str, Glyph], dict[str, Glyph]]:
    """Return the objects that training shows and those that it never shows, by name, most frequent first.

    Objects have names of one word, and pictures that are no near copies of each other. The hash of the name decides the
    order and whether it is unseen, so a name is unseen in every source or in none, and a larger vocabulary contains a
    smaller one.
    """
    usable: dict[str, Glyph] = {}
    for glyph in glyphs.SOURCES[source]():
        is_usable = glyph.name.isalpha() and glyph.name.islower() and glyph.subcategory not in glyphs.BRANDS
        if is_usable and glyph.name not in RESERVED:
            usable.setdefault(glyph.name, glyph)
    names = sorted(usable, key=lambda name: address.hash64(f"object {name}"))
    seen: dict[str, Glyph] = {}
    unseen: dict[str, Glyph] = {}
    shapes: list[np.ndarray] = []
    for name in names:
        if len(seen) >= config.num_objects and len(unseen) >= config.num_unseen:
            break
        shape_P = shape(usable[name].render(RENDER_PX))
        if shapes and are_near(shape_P[None], np.stack(shapes)).any():
            continue
        shapes.append(shape_P)
        side = unseen if address.hash64(f"unseen {name}") / 2**64 < UNSEEN_SHARE else seen
        side[name] = usable[name]
    sides = []
    for key, side in (("num_objects", seen), ("num_unseen", unseen)):
        number = getattr(config, key)
        if len(side) < number:
            raise UsageError(f"data.scenes.{key}={number}: {source}_scenes has only {len(side)} such objects")
        sides.append(dict(list(side.items())[:number]))
    return sides[0], sides[1]


def composition(scene: Scene) -> str:
    """Return the name of a scene's composition: its objects with their inks, or with all their looks."""
    parts = [f"{thing.ink} {thing.name}" for thing in scene.things]
    if scene.composition == "looks":
        parts = [f"{part} {thing.cell} {thing.size}" for part, thing in zip(parts, scene.things, strict=True)]
    return f"{scene.source}: {', '.join(sorted(parts))}"


def is_held_out(composed: str, held_out_fraction: float) -> bool:
    """True if no training scene has this composition; its hash decides."""
    return address.hash64(composed) / 2**64 < held_out_fraction


@lru_cache(maxsize=2**14)  # a picture and its captions are read one after the other, and evaluation reads them again
def draw_scene(objects: Objects, row: int) -> Scene:
    """Draw the scene of a number: the first attempt whose composition belongs to the side."""
    config, attempt = objects.config, 0
    draw = address.generator(seed=config.seed, purpose=f"count {objects.source} {objects.side}", sample_id=row).random()
    count = 1 + int(config.max_objects * draw)  # once, as a side may hold more of one number's compositions
    while attempt < MAX_ATTEMPTS:
        scene = _attempt(objects, row, attempt, count)
        if objects.side == "unseen":
            return scene
        held_out = is_held_out(composition(scene), objects.held_out_fraction)
        if held_out == (objects.side == "held_out"):
            return scene
        attempt += 1
    raise UsageError(
        f"data.held_out_fraction={objects.held_out_fraction} leaves no {objects.side.replace('_', '-')} scene of"
        f" {objects.source}_scenes with {count} objects; {'raise' if objects.side == 'held_out' else 'lower'} it, or"
        " raise data.scenes.num_objects"
    )


def _attempt(objects: Objects, row: int, attempt: int, count: int) -> Scene:
    config, num_objects, num_cells = objects.config, len(objects.glyphs), objects.config.grid**2
    purpose = f"scene {objects.source} {objects.side}"
    generator = address.generator(seed=config.seed, purpose=purpose, epoch=attempt, sample_id=row)
    # Gumbel's trick: the largest sums are a sample without replacement with these weights.
    name_O = objects.log_weight_O - np.log(-np.log(generator.random(num_objects)))
    chosen = np.argsort(-name_O, kind="stable")[: count + 1].tolist()
    cells = np.sort(np.argsort(generator.random(num_cells), kind="stable")[:count]).tolist()
    slot_K = np.argsort(generator.random(count), kind="stable").tolist()  # frequent objects are at no preferred place
    names = list(objects.glyphs)
    things = tuple(
        _placed(objects, names[chosen[slot]], cell, generator.random(4).tolist())
        for slot, cell in zip(slot_K, cells, strict=True)
    )
    is_related, is_wrong, is_noisy, paper, *noise = generator.random(6).tolist()
    words: list[tuple[str, WordClass]] = [(largest(things).name, "object")]
    if is_wrong < config.wrong_rate and count < num_objects:
        words = [(names[chosen[count]], "object")]
    if is_noisy < config.noise_rate:
        before, after = (NOISE[int(len(NOISE) * draw)] for draw in noise)
        words = [(before, "other"), *words, (after, "other")]
    return Scene(
        source=objects.source,
        paper=list(PAPERS)[int(len(PAPERS) * paper)],
        grid=config.grid,
        things=things,
        order=tuple(np.argsort(generator.random(count), kind="stable").tolist()),
        form="relations" if count > 1 and is_related < config.relation_rate else "places",
        alt_text=caption(words),
        composition=config.composition,
    )


def _placed(objects: Objects, name: str, cell: int, draws: list[float]) -> Thing:
    """Put an object into a cell. With ``overlap`` it may reach that share of a cell's side beyond the cell's border."""
    config, px = objects.config, objects.px
    cell_px = px // config.grid
    ink, size, down, right = draws
    number = int(size * NUM_SIZES)
    share = config.min_size + (config.max_size - config.min_size) * (number / (NUM_SIZES - 1))
    side = max(round(cell_px * share), 1)
    beyond = round(config.overlap * cell_px)
    row, column = divmod(cell, config.grid)

    def corner(start: int, draw: float) -> int:
        low, high = start - beyond, start + cell_px - side + beyond
        return min(max(low + int((high - low + 1) * draw), 0), px - side)

    top, left = corner(row * cell_px, down), corner(column * cell_px, right)
    return Thing(name, list(INKS)[int(len(INKS) * ink)], cell, side, top, left, number)
