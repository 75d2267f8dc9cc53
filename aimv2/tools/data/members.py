"""Members of a sample in a shard: the image file, the short caption, and a JSON object with everything else."""

import io
import json
from typing import Any, Literal

import numpy as np
from PIL import Image

from aimv2.base.errors import BadSampleError, UsageError
from aimv2.data.pairs import Pairs
from aimv2.data.sources.glyph_pairs import GlyphPairs
from aimv2.data.sources.scene import Scene, place
from aimv2.datasets.description import SourceDescription
from aimv2.datasets.file_pairs import FilePairs

Format = Literal["jpg", "png", "webp"]
SIGNATURES = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png"}
GLYPH_LABELS = ("concept", "category", "subcategory")
_PILLOW: dict[str, dict[str, Any]] = {
    "jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP", "lossless": True},
}


def drawn_members(pairs: Pairs, row: int, image_format: Format) -> dict[str, Any]:
    """Return the image, ``txt`` and ``json`` of a drawn pair: both captions, and labels of what the picture shows."""
    picture = pairs.picture(row)
    assert isinstance(picture, np.ndarray), "built-in sources draw their pictures"
    short, dense = (pairs.caption(row, kind).text for kind in ("short", "dense"))
    values: dict[str, Any] = {"short": short, "dense": dense}
    if (scene := pairs.scene(row)) is not None:
        values |= _scene_labels(scene)
    elif isinstance(pairs, GlyphPairs):
        values |= {name: str(pairs.table[name].iat[row]) for name in GLYPH_LABELS}
    return {image_format: _encoded(picture, image_format), "txt": short, "json": values}


def file_members(pairs: FilePairs, row: int, description: SourceDescription) -> dict[str, Any]:
    """Return the image file as it is, ``txt``, and ``json`` with the fields that the description uses.

    Raises:
        BadSampleError: the image is missing or is no JPEG, PNG or WebP, or the sample has no caption.
    """
    content = pairs.picture(row)
    fields: dict[str, Any] = {}
    captions = []
    for name in (*description.short, *description.dense, *_labels(description)):
        value = pairs.field(row, name)
        if value is not None:
            _put(fields, name.split("."), value)
        if name in description.short or name in description.dense:
            captions += [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
    if not captions:
        raise BadSampleError("missing caption", ", ".join((*description.short, *description.dense)))
    return {extension(content): content, "txt": captions[0], "json": {"fields": fields}}


def encoded_json(values: dict[str, Any]) -> bytes:
    """Return JSON; values of columns that it does not know, such as dates, become text."""
    return json.dumps(values, ensure_ascii=False, default=str).encode()


def extension(content: bytes) -> str:
    """Return the extension of an image file by its first bytes.

    Raises:
        BadSampleError: it is no JPEG, PNG or WebP.
    """
    for signature, name in SIGNATURES.items():
        if content.startswith(signature):
            return name
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    raise BadSampleError("undecodable image", "the file is no JPEG, PNG or WebP")


def _labels(description: SourceDescription) -> list[str]:
    rule = description.held_out
    return [*description.filters, *([rule.field] if rule and rule.field else [])]


def _put(fields: dict[str, Any], path: list[str], value: Any) -> None:
    """Store the value of the field ``json.caption`` as ``{"json": {"caption": …}}``.

    Raises:
        UsageError: a field and a field within it are both given.
    """
    whole = ".".join(path)
    for name in path[:-1]:
        fields = fields.setdefault(name, {})
        if not isinstance(fields, dict):
            raise UsageError(f"the field {whole} and one that contains it cannot be written together")
    if isinstance(fields.get(path[-1]), dict):
        raise UsageError(f"the field {whole} and one within it cannot be written together")
    fields[path[-1]] = value


def _scene_labels(scene: Scene) -> dict[str, Any]:
    return {
        "paper": scene.paper,
        "objects": [thing.name for thing in scene.things],
        "inks": [thing.ink for thing in scene.things],
        "places": [place(thing.cell, scene.grid) for thing in scene.things],
    }


def _encoded(picture: np.ndarray, image_format: Format) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, **_PILLOW[image_format])
    return content.getvalue()
