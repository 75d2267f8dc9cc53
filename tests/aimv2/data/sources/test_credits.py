from pathlib import Path

from aimv2.config.paths import replaced
from aimv2.data.sources.credits import credits_of
from tests.helpers.own_data import own_source


def test_built_in_sources_are_credited_once(tiny):
    glyphs = replaced(tiny, {"data.sources": ("material", "openmoji")})
    openmoji, font_awesome = "OpenMoji (CC BY-SA 4.0)", "Font Awesome Free (CC BY 4.0)"
    assert credits_of([tiny]) == {"sources": [openmoji, font_awesome], "sets": []}
    both = [openmoji, font_awesome, "Material Design Icons (Apache-2.0)"]
    assert credits_of([tiny, glyphs]) == {"sources": both, "sets": []}


def test_own_sources_are_credited_by_their_licence_lines(tiny, tmp_path):
    one = own_source(tmp_path, "my_birds", num_pairs=10, licence="CC BY 4.0, by *me*")
    other = own_source(tmp_path, "boats", num_pairs=10, licence="")
    config = replaced(tiny, {"data.sources": (one, other)})
    assert credits_of([config])["sources"] == ["my_birds (CC BY 4.0, by *me*)", "boats (no licence stated)"]
    Path(one).unlink()
    unreadable = "my_birds (licence unknown, because the description cannot be read any more)"
    assert credits_of([config])["sources"] == [unreadable, "boats (no licence stated)"]


def test_labelled_sets_are_credited_too(tiny, tmp_path):
    path = tmp_path / "pets.yaml"
    path.write_text("test: {folder: pets}\nlabel: folder\nlicence: CC BY-SA 4.0\n")
    config = replaced(tiny, {"evaluation.sets": (str(path),)})
    assert credits_of([config, config])["sets"] == ["pets (CC BY-SA 4.0)"]
