"""The sources of runs and their labelled sets, each with its licence."""

from collections.abc import Callable, Iterable
from pathlib import Path

from aimv2.base.errors import UsageError
from aimv2.config.data_config import is_described, source_name
from aimv2.config.run_config import RunConfig
from aimv2.data.sources.glyphs import LICENCES
from aimv2.data.sources.version import glyphs_of
from aimv2.datasets.description import LabelledDescription, SourceDescription, read_labelled, read_source

UNSTATED = "no licence stated"
UNKNOWN = "licence unknown, because the description cannot be read any more"


def credits_of(configs: Iterable[RunConfig]) -> dict[str, list[str]]:
    """Return a line for each of the ``sources`` and labelled ``sets`` of these runs: its name and licence, plain text.

    Licences of sources in files are those that their descriptions state now.
    """
    used = list(configs)
    sources = dict.fromkeys(source for config in used for source in config.data.sources)
    sets = dict.fromkeys(path for config in used for path in config.evaluation.sets)
    return {
        "sources": list(dict.fromkeys(map(_source, sources))),
        "sets": [_described(path, read_labelled) for path in sets],
    }


def _source(source: str) -> str:
    if is_described(source):
        return _described(source, read_source)
    name = glyphs_of(source)
    return LICENCES.get(name, f"{name} ({UNSTATED})")


def _described(path: str, read: Callable[[Path], SourceDescription] | Callable[[Path], LabelledDescription]) -> str:
    try:
        licence = read(Path(path)).licence or UNSTATED
    except UsageError:
        licence = UNKNOWN
    return f"{source_name(path)} ({licence})"
