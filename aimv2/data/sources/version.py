"""Versions of the sources, for run names and manifests."""

from aimv2.config.data_config import glyphs_of, kind_of
from aimv2.data.described import described
from aimv2.data.sources import glyphs

SCENES_VERSION = 1  # raise it when the same config gives other scenes


def version(source: str) -> str:
    """Return the versions that a source's pictures and captions depend on; of a source in files, its fingerprint.

    Raises:
        UsageError: a package is not installed, or a source in files has no valid index.
    """
    kind = kind_of(source)
    if kind == "files":
        return described().source_version(source)
    if kind == "scenes":
        return f"{glyphs.own_version(glyphs_of(source))}_scenes-v{SCENES_VERSION}"
    return glyphs.version(source)
