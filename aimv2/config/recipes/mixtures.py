"""Mixtures of sources as presets: ``mixture=paper`` sets ``data.weights`` and ``data.dense_fractions``.

They hold for three sources in this order: DFN-2B, COYO and HQITP, or what stands in for each. These are the built-in
sources of scenes or of glyphs, or sources of your own that are described in ``dfn.yaml``, ``coyo.yaml`` and
``hqitp.yaml``.

    python -m aimv2 train mixture=paper
    python -m aimv2 train mixture=public data.sources=[dfn.yaml,coyo.yaml,hqitp.yaml]
    python sweeps/launch.py sweep=data_mix mixture=paper data.sources=[dfn.yaml,coyo.yaml,hqitp.yaml]
"""

from collections.abc import Sequence
from typing import NamedTuple

from aimv2.base.errors import UsageError
from aimv2.config.data_config import GLYPH_SOURCES, SCENE_SOURCES, source_name

OWN = "own"  # the choice that sets nothing
NAMES = ("dfn", "coyo", "hqitp")  # of sources of one's own


class Preset(NamedTuple):
    """The share of each source, and the share of synthetic captions within it."""

    label: str
    weights: tuple[float, float, float]
    dense_fractions: tuple[float, float, float]


# Table 2, in percent of the samples: DFN-2B 30 alt-text and 30 synthetic, COYO 9 alt-text, HQITP 28 and 3.
PRESETS = {
    "paper": Preset("the paper's mixture (Table 2)", (60.0, 9.0, 31.0), (30 / 60, 0.0, 3 / 31)),
    # What of it can be downloaded: the alt-text of DFN-2B and COYO.
    "public": Preset("its public part: alt-text of DFN-2B and COYO", (30.0, 9.0, 0.0), (0.0, 0.0, 0.0)),
}


def have_roles(sources: Sequence[str]) -> bool:
    """True if the sources are, or stand in for, DFN-2B, COYO and HQITP, in this order."""
    return tuple(map(source_name, sources)) in (SCENE_SOURCES, GLYPH_SOURCES, NAMES)


def check_mixture(choice: str, sources: Sequence[str]) -> None:
    """Refuse a preset for other sources.

    Raises:
        UsageError: the presets say nothing about these sources.
    """
    if choice != OWN and not have_roles(sources):
        raise UsageError(
            f"mixture={choice} needs three sources, {', '.join(f'{name}.yaml' for name in NAMES)} in this order, or the"
            f" built-in ones in theirs, and not data.sources={list(sources)}; set data.weights and"
            " data.dense_fractions for these"
        )
