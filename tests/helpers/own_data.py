"""Sources of a user's own: folders of pictures with captions, made by a test."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from aimv2.data.files.description import read_source
from aimv2.data.files.open import prepare_source

COLOURS = {"red": (210, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 210), "grey": (128, 128, 128)}
PLACES = ("left", "right")


def own_source(
    folder: Path, name: str = "mine", *, num_pairs: int = 60, kinds=("short", "dense"), licence: str = "CC0"
) -> str:
    """Write pictures of a square, their captions and a description; index it, and return the description's path."""
    pictures = folder / name
    pictures.mkdir(parents=True)
    rng, lines = np.random.default_rng(len(name)), []
    for number in range(num_pairs):
        colour, place = list(COLOURS)[number % len(COLOURS)], PLACES[number // len(COLOURS) % 2]
        picture = rng.integers(200, 256, size=(24, 32, 3), dtype=np.uint8)
        start = 4 if place == "left" else 18
        picture[6:18, start : start + 10] = COLOURS[colour]
        Image.fromarray(picture).save(pictures / f"{number}.png")
        captions = {"alt": f"a {colour} square", "long": f"the {colour} square number {number % 7} is on the {place}"}
        lines.append(json.dumps({"image": f"{number}.png", **captions}))
    (folder / f"{name}.jsonl").write_text("\n".join(lines))
    fields = {"short": "alt", "dense": "long"}
    described = [f"folder: {name}", f"table: {name}.jsonl", *(f"{kind}: {fields[kind]}" for kind in kinds)]
    described += [f"licence: {licence}"] if licence else []
    path = folder / f"{name}.yaml"
    path.write_text("\n".join(described))
    prepare_source(read_source(path))
    return str(path)
