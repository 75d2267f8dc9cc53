"""The sources of a run and its labelled sets: their versions, licences and captions, and whether files were edited.

The packages that read data in files take long to load, so they are imported where a run names files.
"""

from collections.abc import Iterable

from aimv2.base.errors import UsageError
from aimv2.config.data_config import DataConfig, glyphs_of, is_described, kind_of, source_name
from aimv2.config.run_config import RunConfig
from aimv2.data.sources import glyphs
from aimv2.datasets.description import descriptions_of, read_description, read_source

SCENES_VERSION = 1  # raise it when the same config gives other scenes
UNSTATED = "no licence stated"
UNKNOWN = "licence unknown, because the description cannot be read any more"


def version(source: str) -> str:
    """Return the versions that a source's pictures and captions depend on; of a source in files, its fingerprint."""
    kind = kind_of(source)
    if kind == "files":
        from aimv2.datasets.open import content_version

        return content_version(source)
    if kind == "scenes":
        return f"{glyphs.own_version(glyphs_of(source))}_scenes-v{SCENES_VERSION}"
    return glyphs.version(source)


def credits_of(configs: Iterable[RunConfig]) -> dict[str, list[str]]:
    """Return a line for each of the ``sources`` and labelled ``sets`` of these runs: its name and licence, plain text.

    Licences of sources in files are those that their descriptions state now.
    """
    used = list(configs)
    sources = dict.fromkeys(source for config in used for source in config.data.sources)
    sets = dict.fromkeys(path for config in used for path in config.evaluation.sets)
    return {"sources": list(dict.fromkeys(map(_credit, sources))), "sets": list(map(_credit, sets))}


def _credit(source: str) -> str:
    if not is_described(source):
        name = glyphs_of(source)
        return glyphs.LICENCES.get(name, f"{name} ({UNSTATED})")
    try:
        licence = read_description(source).licence or UNSTATED
    except UsageError:
        licence = UNKNOWN
    return f"{source_name(source)} ({licence})"


def check_finished(configs: Iterable[RunConfig]) -> None:
    """Compare the data of finished runs with what was indexed, since these runs read it no more."""
    for path in dict.fromkeys(path for config in configs for path in descriptions_of(config)):
        from aimv2.datasets.open import check

        check(path)


def shares_of_captions(data: DataConfig) -> str:
    """Return in words how often training shows captions of each kind; empty unless a source in files has both."""
    weights = data.weights or [1] * len(data.sources)
    shares = {
        name: data.dense_share(number)
        for number, (name, source, weight) in enumerate(zip(data.names, data.sources, weights, strict=True))
        if weight and is_described(source) and len(read_source(source).kinds) > 1
    }
    if not shares:
        return ""
    each = {name: f"{100 * share:g} % dense, {100 * (1 - share):g} % short" for name, share in shares.items()}
    is_same = len(shares) == len(data.sources) and len(set(each.values())) == 1
    text = each.popitem()[1] if is_same else "; ".join(f"{name} {words}" for name, words in each.items())
    if data.dense_fractions is None:
        return f"captions: {text} (data.dense_fraction={data.dense_fraction:g})"
    return f"captions: {text} (data.dense_fractions=[{','.join(f'{share:g}' for share in data.dense_fractions)}])"
