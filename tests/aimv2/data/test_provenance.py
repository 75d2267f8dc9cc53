"""Versions, licences and captions of sources."""

from pathlib import Path

import pytest

from aimv2.config.data_config import SCENE_SOURCES, DataConfig
from aimv2.config.program import replaced
from aimv2.data.provenance import SCENES_VERSION, credits_of, glyphs_of, shares_of_captions, version
from aimv2.data.sources import glyphs
from tests.helpers.own_data import own_source


@pytest.fixture
def sources(tmp_path):
    """Descriptions of two sources with captions of both kinds, and of one with short captions only."""
    both = [own_source(tmp_path, name, num_pairs=10) for name in ("one", "two")]
    return *both, own_source(tmp_path, "alt", num_pairs=10, kinds=["short"])


@pytest.mark.parametrize(
    ("which", "values", "expected"),
    [
        ([0], {"dense_fraction": 0.9}, "captions: 90 % dense, 10 % short (data.dense_fraction=0.9)"),
        ([0, 1], {}, "captions: 33 % dense, 67 % short (data.dense_fraction=0.33)"),
        ([0, 2], {}, "captions: one 33 % dense, 67 % short (data.dense_fraction=0.33)"),
        (
            [0, 1],
            {"dense_fractions": (0.125, 1)},
            "captions: one 12.5 % dense, 87.5 % short; two 100 % dense, 0 % short (data.dense_fractions=[0.125,1])",
        ),
        ([0, 1], {"weights": (0, 1)}, "captions: two 33 % dense, 67 % short (data.dense_fraction=0.33)"),
        ([2], {}, ""),
        ([0, 2], {"weights": (0, 1)}, ""),
    ],
)
def test_shares_of_captions_are_told_of_sources_that_have_both_kinds(sources, which, values, expected):
    config = DataConfig(sources=tuple(sources[number] for number in which), **values)
    assert shares_of_captions(config) == expected


def test_built_in_sources_are_credited_once(tiny):
    glyphs = replaced(tiny, {"data.sources": ("material", "openmoji")})
    openmoji, font_awesome = "OpenMoji (CC BY-SA 4.0)", "Font Awesome Free (CC BY 4.0)"
    assert credits_of([tiny]) == {"sources": [openmoji, font_awesome], "sets": []}
    both = [openmoji, font_awesome, "Material Design Icons (Apache-2.0)"]
    assert credits_of([tiny, glyphs]) == {"sources": both, "sets": []}


def test_own_sources_and_labelled_sets_are_credited_by_their_licence_lines(tiny, tmp_path):
    one = own_source(tmp_path, "my_birds", num_pairs=10, licence="CC BY 4.0, by *me*")
    other = own_source(tmp_path, "boats", num_pairs=10, licence="")
    config = replaced(tiny, {"data.sources": (one, other)})
    assert credits_of([config])["sources"] == ["my_birds (CC BY 4.0, by *me*)", "boats (no licence stated)"]
    Path(one).unlink()
    unreadable = "my_birds (licence unknown, because the description cannot be read any more)"
    assert credits_of([config])["sources"] == [unreadable, "boats (no licence stated)"]
    path = tmp_path / "pets.yaml"
    path.write_text("test: {folder: pets}\nlabel: folder\nlicence: CC BY-SA 4.0\n")
    config = replaced(tiny, {"evaluation.sets": (str(path),)})
    assert credits_of([config, config])["sets"] == ["pets (CC BY-SA 4.0)"]


def test_version_is_that_of_the_glyphs_and_of_the_drawing_of_scenes():
    for source in SCENE_SOURCES:
        assert version(source) == f"{glyphs.own_version(glyphs_of(source))}_scenes-v{SCENES_VERSION}"
    assert version("openmoji") == glyphs.version("openmoji")
