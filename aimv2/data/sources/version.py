"""Versions of the sources, for run names and manifests."""

from aimv2.config.data_config import SCENE_SOURCES
from aimv2.data.sources import glyphs

SCENES_VERSION = 1  # raise it when the same config gives other scenes


def glyphs_of(source: Source) -> str:
    """Return the glyph source that a source shows."""
    return source.removesuffix("_scenes")


def version(source: Source) -> str:
    """Return the versions that a source's pictures and captions depend on.

    Raises:
        UsageError: a package is not installed.
    """
    if source in SCENE_SOURCES:
        return f"{glyphs.own_version(glyphs_of(source))}_scenes-v{SCENES_VERSION}"
    return glyphs.version(source)
