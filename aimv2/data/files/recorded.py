"""The content of data in files, recorded with each attempt at a run, so that no run resumes on other data."""

from collections.abc import Iterable
from pathlib import Path

from aimv2.base.errors import RunFailedError
from aimv2.config.data_config import is_described, source_name
from aimv2.config.run_config import RunConfig
from aimv2.datasets.description import Location, read_labelled, read_source
from aimv2.datasets.open import difference, open_location, read_parts, write_parts
from aimv2.datasets.records import Part

FILE = "data.parquet"


def parts_of(config: RunConfig) -> list[Part]:
    """Return the parts of all sources and labelled sets in files, with the name of the source or set before each."""
    locations: list[tuple[str, Location]] = [
        (source_name(source), read_source(Path(source))) for source in config.data.sources if is_described(source)
    ]
    for path in config.evaluation.sets:
        described = read_labelled(Path(path))
        splits = {split: getattr(described, split) for split in ("train", "validation", "test")}
        locations += [(f"{source_name(path)} {split}", place) for split, place in splits.items() if place is not None]
    return [
        part._replace(name=f"{name}/{part.name}")
        for name, location in locations
        for part in open_location(location, cache_dir=str(Path(config.data.cache_dir) / "shards")).parts()
    ]


def record_content(folder: Path, earlier: Iterable[Path], config: RunConfig, fingerprint: str) -> None:
    """Record the content of sources and labelled sets in the folder of an attempt.

    Args:
        earlier: folders of earlier attempts at the run, newest first.
        fingerprint: of the data as it is now; that in the config is of the data that the run's name stands for.

    Raises:
        RunFailedError: the fingerprints differ; the message says how the content does.
    """
    parts = parts_of(config)
    if config.data.fingerprint and fingerprint != config.data.fingerprint:
        recorded = next((path / FILE for path in earlier if (path / FILE).exists()), None)
        changed = "" if recorded is None else difference(read_parts(recorded), parts)
        raise RunFailedError(
            "data",
            f"the data is not that of this run: {changed or 'a description or its content has changed since the plan'};"
            " restore it, or launch again to start a run on the new data",
        )
    write_parts(folder / FILE, parts)
