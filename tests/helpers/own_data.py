"""Pictures and descriptions as a user has them."""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import yaml
from PIL import Image

from aimv2.datasets.description import SourceDescription, read_labelled, read_source
from aimv2.datasets.open import prepare_location


def picture(number: int, kind: str = "JPEG") -> bytes:
    """Return a small image file; each number has another colour."""
    stream = io.BytesIO()
    Image.new("RGB", (12, 8), (number % 256, number // 256 % 256, 100)).save(stream, kind)
    return stream.getvalue()


def write(path: Path, content: bytes | str) -> Path:
    """Write a file, with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def settle(folder: Path) -> Path:
    """Set the times of a folder and its subfolders back, as if no name in them had changed for long."""
    for path, _, _ in os.walk(folder):
        os.utime(path, (1e9, 1e9))
    return folder


def source(where: Path, **values: object) -> SourceDescription:
    """Write the description ``source.yaml`` into a folder and read it."""
    return read_source(write(where / "source.yaml", yaml.safe_dump({"short": "txt"} | values)))


COLOURS = ("red", "green", "blue", "white")


def pictured_source(where: Path, num_samples: int = 40, *, bad: dict[int, str] | None = None, **values: object) -> Path:
    """Write and index a source of pictures with text files beside them, and return its description.

    Picture 7 is ``07.png`` with a caption of its number and colour. Keys with a kind in ``bad`` have no such file, or
    one that cannot be used.

    Args:
        bad: ``image`` (cut short), ``caption`` (missing) or ``empty`` (caption) by number.
    """
    bad = bad or {}
    for number in range(num_samples):
        colour = number % len(COLOURS)
        stream = io.BytesIO()
        rgb = ((200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 200))[colour]
        Image.new("RGB", (30 + number % 7, 24 + number % 5), rgb).save(stream, "PNG")
        content = stream.getvalue()
        write(where / f"{number:02}.png", content[:60] if bad.get(number) == "image" else content)
        if bad.get(number) != "caption":
            text = " .,! " if bad.get(number) == "empty" else f"a picture of {COLOURS[colour]} number {number}"
            write(where / f"{number:02}.txt", text)
    held_out = {"held_out": {"field": "json.side", "values": ["held_out"]}}
    for number in range(num_samples):
        side = "held_out" if number % 5 == 4 else "train"
        fields = {"side": side, "number": number, "long": [f"long {number}", f"longer {number}"]}
        write(where / f"{number:02}.json", json.dumps(fields))
    path = where.parent / f"{where.name}.yaml"
    write(path, yaml.safe_dump({"folder": where.name, "short": "txt"} | held_out | values))
    prepare_location(read_source(path))
    return path


def own_source(
    folder: Path,
    name: str = "mine",
    *,
    num_pairs: int = 60,
    kinds: Sequence[str] = ("short", "dense"),
    licence: str = "",
) -> str:
    """Write and index such a source with captions of these kinds; dense ones start with "long"; return its path."""
    fields = {"short": "txt", "dense": "json.long"}
    captions = {kind: field if kind in kinds else {} for kind, field in fields.items()}
    return str(pictured_source(folder / name, num_pairs, licence=licence, **captions))


def own_set(folder: Path, name: str, train: str, test: str, licence: str = "") -> str:
    """Index two such sources of a folder as the splits of a labelled set, and return the path of its description."""
    label = {"label": "json.side", "licence": licence}
    path = write(
        folder / f"{name}.yaml", yaml.safe_dump({"train": {"folder": train}, "test": {"folder": test}} | label)
    )
    described = read_labelled(path)
    for split in (described.train, described.test):
        assert split is not None
        prepare_location(split)
    return str(path)
