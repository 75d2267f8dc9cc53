"""Near copies, beside the obvious loop."""

import numpy as np

from aimv2.data.sources import glyphs
from aimv2.data.sources.likeness import NEAR_COPY, are_near, shape

ICONS = ("heart", "circle", "bus")


def printed(glyph, ink, paper):
    """The icon in other colours."""
    font_file, character, *_ = glyph.render.args
    return glyphs._render_icon(font_file, character, glyphs.INKS[ink], glyphs.PAPERS[paper], 32)


def test_shape_does_not_depend_on_ink_and_paper():
    icons = [glyph for glyph in glyphs.SOURCES["material"]() if glyph.name in ICONS]
    one, other = (
        np.array([shape(printed(icon, ink, paper)) for icon in icons])
        for ink, paper in (("black", "white"), ("red", "mint"))
    )
    assert (are_near(one, other) == np.eye(len(ICONS), dtype=bool)).all()


def test_near_copies_are_those_of_the_obvious_loop():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (40, 256))
    # Noise whose squared distances lie on both sides of the threshold.
    shapes = np.clip(np.repeat(base, 3, axis=0) + rng.normal(0, rng.uniform(1, 20, (120, 1)), (120, 256)), 0, 255)
    shapes = shapes.astype(np.uint8)
    exact = shapes.astype(float)
    expected = [
        [((one - other) ** 2).sum() <= NEAR_COPY * ((one**2).sum() + (other**2).sum()) / 2 for other in exact]
        for one in exact
    ]
    assert 160 < np.sum(expected) < 340
    assert are_near(shapes, shapes).tolist() == expected
