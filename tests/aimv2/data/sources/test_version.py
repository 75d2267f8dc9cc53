import pytest

from aimv2.config.data_config import SCENE_SOURCES
from aimv2.data.sources import glyphs
from aimv2.data.sources.version import SCENES_VERSION, glyphs_of, version


@pytest.mark.parametrize("source", SCENE_SOURCES)
def test_version_of_scenes_is_that_of_their_glyphs_and_of_their_drawing(source):
    assert version(source) == f"{glyphs.own_version(glyphs_of(source))}_scenes-v{SCENES_VERSION}"


def test_version_of_glyphs_is_that_of_their_packages():
    assert version("openmoji") == glyphs.version("openmoji")
