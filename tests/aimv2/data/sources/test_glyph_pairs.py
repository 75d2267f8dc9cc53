import os
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest

from aimv2.base.errors import UsageError
from aimv2.data.sources import glyphs
from aimv2.data.sources.glyph_pairs import LABELS, PICTURES, _read, concept_position, open_glyphs
from aimv2.data.tokenizer import clean


@pytest.fixture(scope="module")
def emoji(tiny):
    return open_glyphs("openmoji", tiny.data)


@pytest.mark.exhaustive
def test_split_puts_no_concept_on_both_sides(emoji, tiny):
    train, held_out, _ = emoji
    assert not set(train.table["concept"]) & set(held_out.table["concept"])
    num_train, num_held_out = (part.table["concept"].nunique() for part in (train, held_out))
    share = num_held_out / (num_train + num_held_out)
    assert share == pytest.approx(tiny.data.held_out_fraction, abs=0.03)


@pytest.mark.exhaustive
def test_captions_are_the_cleaned_name_and_description(emoji):
    rows = np.array([0, 10, 200])
    for kind, column in (("short", "name"), ("dense", "description")):
        expected = [clean(text) for text in emoji.train.table[column].iloc[rows]]
        assert [caption.text for caption in emoji.train.captions(rows, kind)] == expected
    names = set(clean(emoji.train.table["name"][3]).split())
    words = zip(*emoji.train.captions(np.array([3]), "dense")[0], strict=True)
    assert {word for word, kind in words if kind == "object"} == names


def test_concept_positions_are_uniform():
    positions = [concept_position(f"concept {i}") for i in range(4000)]
    assert np.histogram(positions, bins=10, range=(0, 1))[0].min() > 330


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("fraction", "message"), [(1 - 1e-9, "no training pair of openmoji"), (1e-9, "no held-out pair of openmoji")]
)
def test_split_with_an_empty_side_is_refused(tiny, fraction, message):
    with pytest.raises(UsageError, match=f"^data.held_out_fraction={fraction} leaves {message}") as caught:
        open_glyphs("openmoji", replace(tiny.data, held_out_fraction=fraction))
    assert "\n" not in str(caught.value)


def test_cache_that_cannot_be_written_is_named(tiny, tmp_path):
    (blocked := tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"data\.cache_dir"):
        open_glyphs("fontawesome", replace(tiny.data, cache_dir=str(blocked)))


@pytest.mark.exhaustive
def test_rendered_pictures_are_those_of_the_glyphs_and_are_not_copied_to_processes(emoji, tiny):
    glyph = next(glyph for glyph in glyphs.SOURCES["openmoji"]() if glyph.key == emoji.train.table["key"][7])
    np.testing.assert_array_equal(emoji.train.picture(7), glyph.render(tiny.data.render_px))
    copied = pickle.dumps(emoji.train._pictures)
    assert len(copied) < 1000
    np.testing.assert_array_equal(pickle.loads(copied)[3], emoji.train._pictures[3])


@pytest.mark.exhaustive
def test_a_broken_cache_is_named(emoji, tmp_path):
    rendered = emoji.train._pictures.path.parent
    for name, change in ((PICTURES, lambda path: os.truncate(path, 600)), (LABELS, lambda path: path.unlink())):
        shutil.copytree(rendered, folder := tmp_path / name)
        change(folder / name)
        with pytest.raises(UsageError, match=f"{name} cannot be read .*; delete it and it is made again"):
            _read(folder)
