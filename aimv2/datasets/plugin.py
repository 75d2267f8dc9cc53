"""Data in files, as runs read it: sources and labelled sets that a YAML file describes.

Each function raises UsageError for a description or an index that cannot be used.
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.config.data_config import DataConfig, is_described, source_name
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import CAPTION_KINDS, CaptionKind, Sides
from aimv2.data.provenance import descriptions_of
from aimv2.datasets.description import SPLITS, LabelledDescription, Location, is_labelled, read_labelled, read_source
from aimv2.datasets.file_pairs import open_pairs
from aimv2.datasets.files import Stamp, stamp_of
from aimv2.datasets.index import FACTS, DataPart, index_path, read_parts, write_parts
from aimv2.datasets.open import difference, open_location
from aimv2.datasets.open import fingerprint as fingerprint_of
from aimv2.datasets.open import open_source as opened
from aimv2.datasets.selection import RULES, excluded_digest

RECORDED = "data.parquet"
CHECKED_SECONDS = 60  # for which files that were compared are not compared again


def open_source(source: str, config: DataConfig) -> Sides:
    """Return the training and held-out pairs of a source."""
    cache_dir, cache_bytes = str(Path(config.cache_dir) / "shards"), int(config.cache_gb * 1e9)
    return open_pairs(opened(read_source(Path(source)), cache_dir, cache_bytes), config, source_name(source))


def check(path: str) -> None:
    _check(path, _state(path), int(time.monotonic() / CHECKED_SECONDS))


def source_version(source: str) -> str:
    """Return a digest of a source's indexed samples and of what its description does to them."""
    return _source_version(source, _state(source))


def set_version(path: str) -> str:
    """Return a digest of a labelled set's indexed content."""
    return _set_version(path, _state(path))


def _state(path: str) -> tuple[Stamp | None, ...]:
    """Return stamps that change with a description and with the indexes of its places."""
    files = [Path(path).expanduser()]
    files += [index_path(place) / name for place in _places(path) for name in (FACTS, RULES)]
    return tuple(stamp_of(file.stat()) if file.exists() else None for file in files)


def _places(path: str) -> list[Location]:
    if not is_labelled(Path(path)):
        return [read_source(Path(path))]
    return [place for _, place in _splits(read_labelled(Path(path)))]


# A plan resolves hundreds of runs; and between two runs of a worker, data may be edited, and indexed again.
@lru_cache(maxsize=64)
def _check(path: str, state: tuple[Stamp | None, ...], minute: int) -> None:
    for place in _places(path):
        open_location(place).check()


@lru_cache(maxsize=64)
def _source_version(source: str, state: tuple[Stamp | None, ...]) -> str:
    return fingerprint_of(opened(read_source(Path(source))))


@lru_cache(maxsize=64)
def _set_version(path: str, state: tuple[Stamp | None, ...]) -> str:
    described = read_labelled(Path(path))
    parts = {
        split: [
            place.image,
            dataclasses.asdict(place)["filters"],
            *filter(None, [excluded_digest(place)]),
            open_location(place).parts(),
        ]
        for split, place in _splits(described)
    }
    content = json.dumps([described.label, parts], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def caption_kinds(source: str) -> tuple[CaptionKind, ...]:
    described = read_source(Path(source))
    return tuple(kind for kind in CAPTION_KINDS if getattr(described, kind))


def own_augment(source: str) -> Mapping[str, float]:
    """Return the values of ``augment`` that a source sets itself, by name."""
    return read_source(Path(source)).transforms.given


def has_questions(source: str) -> bool:
    return read_source(Path(source)).questions is not None


def source_licence(source: str) -> str:
    return read_source(Path(source)).licence


def set_licence(path: str) -> str:
    return read_labelled(Path(path)).licence


def record_content(folder: Path, earlier: Iterable[Path], config: RunConfig, fingerprint: str) -> None:
    """Record the content of sources and labelled sets in the folder of an attempt.

    Args:
        earlier: folders of earlier attempts at the run, newest first.
        fingerprint: of the data as it is now; that in the config is of the data that the run's name stands for.

    Raises:
        RunFailedError: the fingerprints differ (cause ``data``); the message says how the content does.
    """
    parts = parts_of(config)
    try:
        for path in descriptions_of(config):
            check(path)
    except UsageError as error:
        raise RunFailedError("data", str(error)) from error
    if config.data.fingerprint and fingerprint != config.data.fingerprint:
        recorded = next((path / RECORDED for path in earlier if (path / RECORDED).exists()), None)
        changed = "" if recorded is None else difference(read_parts(recorded), parts)
        raise RunFailedError(
            "data",
            f"the data is not that of this run: {changed or 'a description or its content has changed since the plan'};"
            " restore it, or launch again to start a run on the new data",
        )
    write_parts(folder / RECORDED, parts)


def parts_of(config: RunConfig) -> list[DataPart]:
    """Return the parts of all sources and labelled sets in files, with the name of the source or set before each."""
    locations: list[tuple[str, Location]] = [
        (source_name(source), read_source(Path(source))) for source in config.data.sources if is_described(source)
    ]
    for path in config.evaluation.sets:
        locations += [(f"{source_name(path)} {split}", place) for split, place in _splits(read_labelled(Path(path)))]
    return [
        part._replace(name=f"{name}/{part.name}")
        for name, location in locations
        for part in open_location(location, cache_dir=str(Path(config.data.cache_dir) / "shards")).parts()
    ]


def _splits(described: LabelledDescription) -> list[tuple[str, Location]]:
    """Return the splits of a labelled set, with their names."""
    return [(split, place) for split in SPLITS if (place := getattr(described, split)) is not None]
