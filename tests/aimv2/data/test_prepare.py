from dataclasses import replace

import numpy as np
import pytest

from aimv2.base.errors import UsageError
from aimv2.base.order import sample_order
from aimv2.data.prepare import load_tokenizer, mixture, prepare, render
from tests.helpers.own_data import own_source


def test_prepare_joins_the_sides_of_all_sources(pairs):
    assert list(pairs.train.rows) == ["openmoji_scenes", "fontawesome_scenes"]
    sides = [
        {key.split("-")[1] for key in part.keys(np.arange(10))} for part in (pairs.train, pairs.held_out, pairs.unseen)
    ]
    assert sides == [{"train"}, {"held_out"}, {"unseen"}]


@pytest.mark.exhaustive
def test_glyphs_alone_have_no_unseen_objects(tiny):
    assert prepare(replace(tiny.data, sources=("fontawesome",)), tiny.model.vocab_size).unseen is None


def test_mixture_has_the_rows_of_each_source(tiny, pairs):
    assert mixture(tiny.data, pairs.train) is None
    mixed = mixture(replace(tiny.data, weights=(1, 3)), pairs.train)
    assert mixed.quotas == (250, 750)
    assert mixed.rows == (range(400), range(400, 800))


def test_sources_in_files_are_shown_once_an_epoch_without_weights(tiny, tmp_path):
    sources = tuple(own_source(tmp_path, name, num_pairs=num) for name, num in (("birds", 61), ("boats", 24)))
    data = replace(tiny.data, sources=sources)
    train = prepare(data, tiny.model.vocab_size).train
    order = {"seed": 0, "num_rows": len(train), "block_rows": train.block_rows, "mixture": mixture(data, train)}
    epochs, rows = sample_order(np.arange(3 * len(train)), **order)
    for epoch in range(3):
        assert sorted(rows[epochs == epoch]) == list(range(len(train)))


def test_load_tokenizer_uses_the_cached_one(tiny, pairs):
    assert load_tokenizer(tiny.data, tiny.model.vocab_size, pairs.train).fingerprint == pairs.tokenizer.fingerprint


def test_load_tokenizer_refuses_one_larger_than_the_vocabulary(tiny, pairs, tmp_path):
    (tmp_path / "tokenizer.json").write_text(pairs.tokenizer.to_json())
    data = replace(tiny.data, tokenizer=str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(data, tiny.model.vocab_size, pairs.train).fingerprint == pairs.tokenizer.fingerprint
    with pytest.raises(UsageError, match="vocab_size=300"):
        load_tokenizer(data, 300, pairs.train)


def test_prepare_names_a_cache_without_room_for_the_tokenizer(tiny, tmp_path):
    (tmp_path / "tokenizers").write_text("in the way")
    with pytest.raises(UsageError, match=r"data\.cache_dir=.* cannot be written"):
        prepare(replace(tiny.data, cache_dir=str(tmp_path)), tiny.model.vocab_size)


def test_scenes_are_not_rendered(tiny, tmp_path):
    render(replace(tiny.data, cache_dir=str(tmp_path)))
    assert not list(tmp_path.iterdir())
