"""Folders of small files, and their checksums in an index."""

import random
from collections.abc import Mapping
from pathlib import Path

from aimv2.datasets.description import Location
from aimv2.datasets.folder.checksums import WrittenFiles, write_files
from aimv2.datasets.folder.files import Files
from aimv2.datasets.folder.walk import Walk
from aimv2.datasets.index_folder import write_facts, writing
from aimv2.datasets.records import OnProgress
from tests.helpers.own_data import write

EXTENSIONS = (".jpg", ".png")


def ignore(done: int, total: int | None) -> None:
    """Show no progress."""


def fill(root: Path, seed: int = 0, num: int = 60) -> dict[str, bytes]:
    """Write images with files beside them into nested folders, and return the content of all by path."""
    draw = random.Random(seed)
    found = {}
    for number in range(num):
        folder = draw.choice(["", "a/", "a/b/", "a-b/", "ä/", "z/y/x/"])
        stem = folder + draw.choice(["", "p.", "p-", "ö"]) + str(number)
        for extension in ("jpg", *draw.sample(["txt", "json", "caption.txt"], draw.randint(0, 3))):
            found[f"{stem}.{extension}"] = draw.randbytes(draw.randint(0, 50))
    for path, content in found.items():
        write(root / path, content)
    return found


def index_files(
    root: Path,
    index: Path,
    named: Mapping[str, set[str]] | None = None,
    *,
    workers: int = 1,
    on_progress: OnProgress = ignore,
    verify: bool = False,
) -> tuple[Files, WrittenFiles]:
    """Write the index of the files of a folder, without samples."""
    location = Location(folder=str(root), index=str(index))
    listings = list(Walk(str(root), EXTENSIONS, named))
    with writing(location) as folder:
        found = write_files(folder, location, str(root), listings, workers, on_progress, verify=verify)
        write_facts(folder, location, 0, [])
    return Files(index), found
