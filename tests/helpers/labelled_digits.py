"""Handwritten digits as a labelled set in files."""

import json
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from aimv2.datasets.description import read_labelled
from aimv2.datasets.open import prepare_location

NUM_DIGITS = 160
IMAGE_PX = 28


def labelled_digits(folder):
    """Return the description of 160 handwritten digits in folders of classes, indexed; the test has 40, in a table.

    Args:
        folder: an empty one.
    """
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    bunch = load_digits()
    rows = {"train": [], "test": []}
    for number in range(NUM_DIGITS):
        split, digit = "test" if number % 4 == 0 else "train", str(bunch.target[number])
        path = Path(digit) / f"{number:04d}.png"
        (folder / split / digit).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(np.rint(bunch.images[number] * (255 / 16)).astype(np.uint8))
        picture.resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC).save(folder / split / path)
        rows[split].append({"image": str(path)})
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows["test"]))
    description = {
        "train": {"folder": "train"},
        "test": {"folder": "test", "table": "test.jsonl"},
        "name": "written",
        "label": "folder",
        "classes": {str(number): name for number, name in enumerate(names)},
        "prompts": ["a photo of a {}", "a {}"],
    }
    path = folder / "written.yaml"
    path.write_text(yaml.safe_dump(description))
    return indexed(path)


def changed(path, stem, **values):
    """Write and index a set with other values of the description beside the set at the path; None removes a key."""
    described = {key: value for key, value in (yaml.safe_load(path.read_text()) | values).items() if value is not None}
    other = path.with_name(f"{stem}.yaml")
    other.write_text(yaml.safe_dump(described))
    return indexed(other)


def indexed(path):
    """Index the splits of a described set."""
    described = read_labelled(path)
    for location in filter(None, (described.train, described.validation, described.test)):
        prepare_location(location)
    return path
