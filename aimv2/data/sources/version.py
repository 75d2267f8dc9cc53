"""Versions of the sources, for run names and manifests."""

import dataclasses
import hashlib
import json
from functools import lru_cache
from pathlib import Path

from aimv2.config.data_config import kind_of
from aimv2.data.sources import glyphs
from aimv2.datasets.description import read_labelled, read_source
from aimv2.datasets.open import fingerprint, open_location, open_source

SCENES_VERSION = 1  # raise it when the same config gives other scenes


def glyphs_of(source: str) -> str:
    """Return the glyph source that a source shows."""
    return source.removesuffix("_scenes")


def version(source: str) -> str:
    """Return the versions that a source's pictures and captions depend on; of a source in files, its fingerprint.

    Raises:
        UsageError: a package is not installed, or a source in files has no valid index.
    """
    kind = kind_of(source)
    if kind == "files":
        return file_version(source)
    if kind == "scenes":
        return f"{glyphs.own_version(glyphs_of(source))}_scenes-v{SCENES_VERSION}"
    return glyphs.version(source)


@lru_cache(maxsize=64)
def set_version(path: str) -> str:
    """Return a digest of a labelled set's content, as it is when it is first asked for; errors as above."""
    described = read_labelled(Path(path))
    splits = {split: getattr(described, split) for split in ("train", "validation", "test")}
    parts = {
        split: [place.image, dataclasses.asdict(place)["filters"], open_location(place).parts()]
        for split, place in splits.items()
        if place is not None
    }
    content = json.dumps([described.label, parts], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


@lru_cache(maxsize=64)  # a plan resolves hundreds of runs
def file_version(source: str) -> str:
    """Return the fingerprint of a source in files, as it is when it is first asked for."""
    return fingerprint(open_source(read_source(Path(source))))
