from dataclasses import replace

import numpy as np
import pytest

from aimv2.base.errors import UsageError
from aimv2.config.program import replaced
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import load_tokenizer, mean_supervised_tokens, order_of, prepare, quotas_of
from tests.helpers.marks import exhaustive
from tests.helpers.own_data import own_source


def test_prepare_joins_the_sides_of_all_sources(pairs):
    assert list(pairs.train.rows) == ["openmoji_scenes", "fontawesome_scenes"]
    parts = (pairs.train, pairs.held_out, pairs.unseen)
    sides = [{key.split("-")[1] for key in part.keys(np.arange(10))} for part in parts]
    assert sides == [{"train"}, {"held_out"}, {"unseen"}]


def test_weights_give_the_quotas_of_sources(tiny, pairs):
    assert quotas_of(tiny.data, pairs.train) is None
    data = replace(tiny.data, weights=(1, 3))
    assert quotas_of(data, pairs.train) == (250, 750)
    _, rows = order_of(data, pairs.train).at(np.arange(1000), seed=0)
    assert (rows < 400).sum() == 250


def test_canonical_nodes_need_a_pair_each_of_every_source_that_is_shown(tiny, pairs):
    data = replace(tiny.data, canonical_nodes=401)
    with pytest.raises(UsageError, match=r"data\.canonical_nodes=401 is more than the 400 training pairs of"):
        order_of(data, pairs.train)


def test_sources_in_files_are_shown_once_an_epoch_without_weights(tiny, tmp_path):
    sources = tuple(own_source(tmp_path, name, num_pairs=num) for name, num in (("birds", 61), ("boats", 24)))
    data = replace(tiny.data, sources=sources)
    train = prepare(data, tiny.model.vocab_size).train
    epochs, rows = order_of(data, train).at(np.arange(3 * len(train)), seed=0)
    for epoch in range(3):
        assert sorted(rows[epochs == epoch]) == list(range(len(train)))


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


NUM_SAMPLES = 4000


@pytest.mark.parametrize(
    "changes",
    [
        {},
        exhaustive({"objective.supervise_eos": True}),
        exhaustive({"data.dense_fraction": 1.0}),
        {"data.dense_fraction": 0.0, "data.weights": (1, 9)},
        exhaustive({"data.weights": (3, 1), "data.captions": "shuffled"}),
        exhaustive({"model.max_text_tokens": 4}),
    ],
    ids=str,
)
def test_mean_is_that_of_the_samples_that_training_draws(tiny, pairs, changes):
    config = replaced(tiny, {"budget.samples": NUM_SAMPLES, "budget.batch_size": 500} | changes)
    batches = TrainBatches(config, pairs.train, pairs.tokenizer)
    drawn = sum(batches[step].num_supervised for step in range(len(batches))) / NUM_SAMPLES
    assert mean_supervised_tokens(config) == pytest.approx(drawn, rel=0.025), "four standard errors"
