"""The sources of runs and their labelled sets, each with its licence."""

from collections.abc import Callable, Iterable

from aimv2.base.errors import UsageError
from aimv2.config.data_config import glyphs_of, is_described, source_name
from aimv2.config.run_config import RunConfig
from aimv2.data.described import described
from aimv2.data.sources.glyphs import LICENCES

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
        "sets": [_described(path, described().set_licence) for path in sets],
    }


def _source(source: str) -> str:
    if is_described(source):
        return _described(source, described().source_licence)
    name = glyphs_of(source)
    return LICENCES.get(name, f"{name} ({UNSTATED})")


def _described(path: str, licence_of: Callable[[str], str]) -> str:
    try:
        licence = licence_of(path) or UNSTATED
    except UsageError:
        licence = UNKNOWN
    return f"{source_name(path)} ({licence})"
