import numpy as np
import pytest

from aimv2.data import glyphs
from aimv2.errors import UsageError


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
def test_variants_share_a_concept(name, concept):
    assert glyphs.emoji_concept(name) == concept


@pytest.mark.parametrize(("source", "at_least"), [("openmoji", 3700), ("material", 7000), ("fontawesome", 1900)])
def test_sources_have_their_glyphs_each_named_once(source, at_least):
    found = list(glyphs.SOURCES[source]())
    assert len(found) >= at_least
    assert len({glyph.key for glyph in found}) == len(found)
    assert all(glyph.name and glyph.description.startswith(glyph.name) and glyph.concept for glyph in found)
    ids = {glyphs.sample_id(glyph.key) for glyph in found}
    assert len(ids) == len(found)
    assert all(0 <= number < 2**63 for number in ids)


@pytest.mark.parametrize("source", glyphs.SOURCES)
def test_drawings_show_something_and_are_the_same_each_time(source):
    for glyph in list(glyphs.SOURCES[source]())[::400]:
        picture = glyph.draw(32)
        assert picture.shape == (32, 32, 3)
        assert picture.dtype == np.uint8
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2, glyph.key
        np.testing.assert_array_equal(picture, glyph.draw(32))


def test_icons_are_drawn_in_the_colours_that_they_are_said_to_have():
    for glyph in list(glyphs.material())[::500]:
        ink, paper = glyph.description.rsplit(" in ", 1)[1].split(" on ")
        picture = glyph.draw(48).reshape(-1, 3)
        assert tuple(picture[0]) == glyphs.PAPERS[paper]
        distance = np.abs(picture.astype(int) - glyphs.INKS[ink]).sum(axis=1).min()
        assert distance < 60, f"{glyph.key}: no pixel is {ink}"


def test_a_missing_package_is_named_with_the_remedy(monkeypatch):
    def refuse(name, *arguments, **options):
        raise ImportError(name)

    monkeypatch.setattr(glyphs, "import_module", refuse)
    with pytest.raises(UsageError, match=r"'openmoji' needs the package .* pip install 'aimv2-ablations\[glyphs\]'"):
        next(glyphs.openmoji())


def test_a_version_of_a_missing_package_is_named_too(monkeypatch):
    monkeypatch.setitem(glyphs.PACKAGES, "openmoji", ("openmoji-of-the-future",))
    with pytest.raises(UsageError, match="openmoji-of-the-future"):
        glyphs.version("openmoji")
