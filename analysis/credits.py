"""Where pictures come from, and their licences."""

from collections.abc import Callable, Sequence
from pathlib import Path

from aimv2.config.data_config import is_described, source_name
from aimv2.config.run_config import RunConfig
from aimv2.data.files.description import LabelledDescription, SourceDescription, read_labelled, read_source
from aimv2.data.sources.version import glyphs_of
from aimv2.errors import UsageError
from analysis.markdown import escape

LICENCES = {
    "material": "Material Design Icons (Apache-2.0)",
    "fontawesome": "Font Awesome Free (CC BY 4.0)",
    "openmoji": "OpenMoji (CC BY-SA 4.0)",
}


def credits_of(config: RunConfig) -> str:
    """Return the sources of a run and its labelled sets, each with its licence, as Markdown."""
    built_in = [LICENCES[glyphs_of(source)] for source in config.data.sources if not is_described(source)]
    own = _described([source for source in config.data.sources if is_described(source)], read_source)
    text = f"Images: {', '.join([*built_in, *own])}."
    if sets := _described(config.evaluation.sets, read_labelled):
        text += f" Labelled sets: {', '.join(sets)}."
    return text


def _described(
    paths: Sequence[str], read: Callable[[Path], SourceDescription] | Callable[[Path], LabelledDescription]
) -> list[str]:
    """Return the names of descriptions with the licences that they state now."""
    found = []
    for path in paths:
        try:
            licence = read(Path(path)).licence or "no licence stated"
        except UsageError:
            licence = "licence unknown, because the description cannot be read any more"
        found.append(f"{escape(source_name(path))} ({escape(licence)})")
    return found
