import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aimv2.data.pairs import concept_position, load_pairs, load_tokenizer, prepare, split
from aimv2.errors import UsageError


def test_split_puts_no_concept_on_both_sides(pairs, tiny):
    train, held_out, _ = pairs
    assert not set(train.table["concept"]) & set(held_out.table["concept"])
    num_train, num_held_out = (part.table["concept"].nunique() for part in (train, held_out))
    share = num_held_out / (num_train + num_held_out)
    assert share == pytest.approx(tiny.data.held_out_fraction, abs=0.03)


def test_split_keeps_all_skin_tones_together(pairs):
    train, held_out, _ = pairs
    sides = [part.table["name"].str.startswith("waving hand").sum() for part in (train, held_out)]
    assert sorted(sides) == [0, 6]


def test_split_does_not_depend_on_other_sources(tiny, pairs):
    train, _, _ = pairs
    fewer, _ = split(load_pairs(replace(tiny.data, sources=("fontawesome",))), tiny.data.held_out_fraction)
    expected = train.table.loc[train.table["source"] == "fontawesome", "key"]
    assert set(fewer.table["key"]) == set(expected)


def test_where_keeps_pictures_with_their_rows(pairs):
    train, _, _ = pairs
    chosen = train.where(train.table["source"] == "openmoji")
    row = 5
    before = train.table.index[train.table["key"] == chosen.table["key"][row]][0]
    np.testing.assert_array_equal(chosen.images(np.array([row])), train.images(np.array([before])))


def test_subsets_are_nested_and_of_the_requested_size(pairs):
    _, held_out, _ = pairs
    small, large = held_out.subset(10), held_out.subset(50)
    assert (len(small), len(large)) == (10, 50)
    assert set(small.table["key"]) < set(large.table["key"])


def test_concept_positions_are_uniform():
    positions = [concept_position(f"concept {i}") for i in range(4000)]
    assert np.histogram(positions, bins=10, range=(0, 1))[0].min() > 330


def test_load_tokenizer_uses_the_cached_one(tiny, pairs):
    train, _, tokenizer = pairs
    assert load_tokenizer(tiny.data, tiny.model, train).fingerprint == tokenizer.fingerprint


def test_load_tokenizer_refuses_one_larger_than_the_vocabulary(tiny, pairs, tmp_path):
    train, _, tokenizer = pairs
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json())
    data = replace(tiny.data, tokenizer=str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(data, tiny.model, train).fingerprint == tokenizer.fingerprint
    with pytest.raises(UsageError, match="vocab_size=300"):
        load_tokenizer(data, replace(tiny.model, vocab_size=300), train)


def test_prepare_names_a_cache_without_room_for_the_tokenizer(tiny, tmp_path):
    (tmp_path / "tokenizers").write_text("in the way")
    pairs_of_tiny = (Path(tiny.data.cache_dir) / "pairs").resolve()
    (tmp_path / "pairs").symlink_to(pairs_of_tiny)
    load_pairs(tiny.data)
    with pytest.raises(UsageError, match=r"data\.cache_dir=.* cannot be written"):
        prepare(replace(tiny.data, cache_dir=str(tmp_path)), tiny.model)


def test_load_pairs_names_a_cache_that_cannot_be_written(tiny, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UsageError, match=r"data\.cache_dir"):
        load_pairs(replace(tiny.data, sources=("fontawesome",), cache_dir=str(blocked)))


@pytest.mark.parametrize(
    ("fraction", "message"), [(1 - 1e-9, "no training pair out of"), (1e-9, "no held-out pair out of")]
)
def test_prepare_refuses_a_split_with_an_empty_side(tiny, fraction, message):
    with pytest.raises(UsageError, match=f"^data.held_out_fraction={fraction} leaves {message}") as caught:
        prepare(replace(tiny.data, held_out_fraction=fraction), tiny.model)
    assert "\n" not in str(caught.value)


def test_pairs_load_without_torch():
    """A launcher of many runs, for example, whose pictures are rendered already."""
    script = "import sys, aimv2.data.pairs; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"
