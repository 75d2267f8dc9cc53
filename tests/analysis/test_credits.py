"""Credits of pictures: those of the sources that were used."""

from pathlib import Path

from aimv2.config.paths import replaced
from analysis.credits import credits_of
from tests.helpers.own_data import own_source


def test_built_in_sources_are_credited_if_they_were_used(tiny):
    assert credits_of(tiny) == "Images: OpenMoji (CC BY-SA 4.0), Font Awesome Free (CC BY 4.0)."
    glyphs = replaced(tiny, {"data.sources": ("material",)})
    assert credits_of(glyphs) == "Images: Material Design Icons (Apache-2.0)."


def test_own_sources_are_credited_by_their_licence_lines(tiny, tmp_path):
    one = own_source(tmp_path, "my_birds", num_pairs=10, licence="CC BY 4.0, by *me*")
    other = own_source(tmp_path, "boats", num_pairs=10, licence="")
    config = replaced(tiny, {"data.sources": (one, other)})
    assert credits_of(config) == r"Images: my\_birds (CC BY 4.0, by \*me\*), boats (no licence stated)."
    Path(one).unlink()
    unreadable = r"my\_birds (licence unknown, because the description cannot be read any more)"
    assert credits_of(config) == f"Images: {unreadable}, boats (no licence stated)."


def test_labelled_sets_are_credited_too(tiny, tmp_path):
    path = tmp_path / "pets.yaml"
    path.write_text("test: {folder: pets}\nlabel: folder\nlicence: CC BY-SA 4.0\n")
    config = replaced(tiny, {"evaluation.sets": (str(path),)})
    assert credits_of(config).endswith("Font Awesome Free (CC BY 4.0). Labelled sets: pets (CC BY-SA 4.0).")
