"""The content of sources in files, recorded with each attempt at a run, so that no run resumes on other data."""

from collections.abc import Iterable
from pathlib import Path

from aimv2.config.data_config import DataConfig, source_name
from aimv2.data.files.description import read_source
from aimv2.data.files.open import difference, open_source, read_parts, write_parts
from aimv2.data.files.records import Part
from aimv2.errors import RunFailedError

FILE = "data.parquet"


def parts_of(config: DataConfig) -> list[Part]:
    """Return the parts of all sources, with the name of the source before that of the part."""
    return [
        part._replace(name=f"{source_name(source)}/{part.name}")
        for source in config.sources
        for part in open_source(read_source(Path(source))).records.parts()
    ]


def record_content(folder: Path, earlier: Iterable[Path], config: DataConfig, fingerprint: str) -> None:
    """Record the sources' content in the folder of an attempt.

    Args:
        earlier: folders of earlier attempts at the run, newest first.
        fingerprint: of the data as it is now; that in the config is of the data that the run's name stands for.

    Raises:
        RunFailedError: the fingerprints differ; the message says how the content does.
    """
    parts = parts_of(config)
    if config.fingerprint and fingerprint != config.fingerprint:
        recorded = next((path / FILE for path in earlier if (path / FILE).exists()), None)
        changed = "" if recorded is None else difference(read_parts(recorded), parts)
        raise RunFailedError(
            "data",
            f"the data is not that of this run: {changed or 'a description or its content has changed since the plan'};"
            " restore it, or launch again to start a run on the new data",
        )
    write_parts(folder / FILE, parts)
