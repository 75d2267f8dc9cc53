"""Shards of made-up pictures with captions, written by webdataset."""

import io
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

WORDS = ("red", "green", "blue", "small", "large", "old", "dog", "house", "river", "cup", "street", "two", "near", "a")
NUM_PICTURES = 64  # different ones; samples repeat them
NUM_SHARDS = 4
OCTAVES = ((2, 60), (8, 50), (32, 30), (128, 12), (400, 6))  # (cells along the width, standard deviation of a level)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A kind of pictures, and the size at which training shows them.

    Attributes:
        width, height: of the files, in pixels.
        image_px: side of the crops.
        per_photograph: so many of them are timed for each photograph, so that timings last equally long.
    """

    name: str
    extension: Literal["jpg", "png"]
    width: int
    height: int
    image_px: int
    patch_px: int
    per_photograph: int = 1


PHOTOGRAPHS = Pictures(name="photographs", extension="jpg", width=500, height=375, image_px=224, patch_px=14)
SCENES = Pictures(name="scenes", extension="png", width=32, height=32, image_px=32, patch_px=8, per_photograph=8)


def draw(kind: Pictures, generator: np.random.Generator) -> bytes:
    """Return the file of a picture: noise of several scales for a photograph, coloured rectangles for a scene."""
    stream = io.BytesIO()
    if kind.extension == "jpg":
        _photograph(kind, generator).save(stream, "JPEG", quality=85)
    else:
        pixels = np.full((kind.height, kind.width, 3), generator.integers(0, 256, 3), dtype=np.uint8)
        for _ in range(3):
            top, left = generator.integers(0, kind.height // 2, 2)
            pixels[top : top + kind.height // 2, left : left + kind.width // 2] = generator.integers(0, 256, 3)
        Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _photograph(kind: Pictures, generator: np.random.Generator) -> Image.Image:
    """Return noise with less contrast at finer scales, as in photographs; as a JPEG it takes about 40 kB."""
    size = (kind.width, kind.height)
    total = np.full((kind.height, kind.width, 3), 128.0)
    for cells, deviation in OCTAVES:
        rows = cells * kind.height // kind.width + 2
        for channel in range(3):
            noise = Image.fromarray(generator.normal(size=(rows, cells)).astype(np.float32))
            total[..., channel] += deviation * np.asarray(noise.resize(size, Image.Resampling.BICUBIC))
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def write_shards(folder: Path, kind: Pictures, num_samples: int) -> list[Path]:
    """Write samples with two captions into a new folder, in NUM_SHARDS shards, and return the shards."""
    import webdataset as wds

    folder.mkdir()
    generator = np.random.default_rng(0)
    files = [draw(kind, generator) for _ in range(min(num_samples, NUM_PICTURES))]
    pattern, maxcount = str(folder / "%05d.tar"), -(-num_samples // NUM_SHARDS)
    with wds.ShardWriter(pattern, maxcount=maxcount, verbose=0) as writer:
        for number, file in zip(range(num_samples), itertools.cycle(files)):
            writer.write(sample(number, kind, file, generator))
    return sorted(folder.glob("*.tar"))


def sample(number: int, kind: Pictures, file: bytes, generator: np.random.Generator) -> dict[str, str | bytes]:
    """Return a sample for webdataset's writer. Its captions start with its number, so that no two are equal."""
    short, dense = (" ".join([str(number), *generator.choice(WORDS, size=size - 1)]) for size in (8, 30))
    content = json.dumps({"caption": dense, "width": kind.width, "height": kind.height})
    return {"__key__": f"{number:09d}", kind.extension: file, "txt": short, "json": content.encode()}


def describe(folder: Path) -> Path:
    """Write the description of a folder of shards beside it, and return its path."""
    path = folder.with_suffix(".yaml")
    values: dict[str, object] = {"shards": f"{folder}/*.tar", "short": "txt", "dense": "json.caption"}
    values |= {"held_out": {"fraction": 0.2}}
    path.write_text(json.dumps(values))  # JSON is YAML
    return path
