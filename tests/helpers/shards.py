"""Tar shards as users have them, and an independent reader of them."""

import io
import json
import os
import tarfile
from pathlib import Path

import webdataset as wds

from aimv2.datasets.description import Location
from aimv2.datasets.records import Records, write_index
from tests.helpers.own_data import picture

Members = list[tuple[str, bytes]]
SIZE = 1000  # bytes of the files of the fixture ``urls``


def write_tar(path: Path, members: Members, *, kind: int = tarfile.PAX_FORMAT, mtime: float = 1.5) -> Path:
    """Write an archive of files; with a fraction in the time, pax archives have a pax header for every member."""
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), mtime if kind == tarfile.PAX_FORMAT else int(mtime)
            tar.addfile(info, io.BytesIO(content))
    return path


def sample(number: int, *, px: int = 40) -> Members:
    """Return the members of a sample, all different from those of other samples. The image is no real one."""
    key = f"{number:06d}"
    values = {"caption": f"json {key}", "meta": {"width": number}, "several": [f"a {key}", f"b {key}"]}
    return [
        (f"{key}.jpg", f"image {key} ".encode() * px),
        (f"{key}.txt", f"text {key}".encode()),
        (f"{key}.json", json.dumps(values).encode()),
    ]


def write_shards(folder: Path, num_shards: int = 3, num_samples: int = 5) -> list[Path]:
    """Write shards ``00000.tar``, … with numbered samples."""
    return [
        write_tar(
            folder / f"{shard:05d}.tar",
            [member for number in range(num_samples) for member in sample(shard * num_samples + number)],
        )
        for shard in range(num_shards)
    ]


def write_pictured_shards(folder: Path, num_shards: int, num_pairs: int) -> str:
    """Write shards of numbered pictures with captions into a new folder, and return the pattern of their names."""
    folder.mkdir()
    for shard in range(num_shards):
        members = []
        for number in range(num_pairs * shard, num_pairs * (shard + 1)):
            members += [(f"{number:04}.png", picture(number, "PNG")), (f"{number:04}.txt", f"number {number}".encode())]
        write_tar(folder / f"{shard:02}.tar", members)
    return f"{{00..{num_shards - 1:02}}}.tar"


def build(place: Location, workers: int = 1, on_progress=lambda *_: None) -> list[str]:
    """Write the index of a location, without a selection, and return the notes on it."""
    return write_index(place, workers, on_progress).notes


def no_wait(seconds: float) -> None:
    """Repeat a read at once."""


def indexed(place: Location, **values: object) -> Records:
    """Index a location and open it; reads are repeated without waiting."""
    build(place)
    return Records(place, sleep=no_wait, **values)


def location(folder: Path, pattern: str = "*.tar", **values: object) -> Location:
    """Return the location of shards in a folder, with its index beside them."""
    return Location(shards=(str(folder / pattern),), index=str(folder / "set.index"), **values)


def samples_of(path: Path) -> list[tuple[str, dict[str, bytes]]]:
    """Return the keys and members of a shard's samples, as webdataset reads them."""
    found = wds.WebDataset(os.fspath(path), shardshuffle=False, empty_check=False)
    return [
        (one["__key__"], {name: value for name, value in one.items() if not name.startswith("__")}) for one in found
    ]
