from dataclasses import replace

import numpy as np
import pytest

from aimv2.base.errors import UsageError
from aimv2.evaluation.prepare import of_split, prepare_evaluation


def no_transfer(*data):
    return []


def test_evaluation_data_is_prepared_once_for_all_runs_on_the_same_data(tiny, pairs):
    prepared = prepare_evaluation(pairs, tiny, no_transfer)
    other = replace(tiny, seed=5, model=replace(tiny.model, encoder=replace(tiny.model.encoder, depth=1)))
    assert prepare_evaluation(pairs, other, no_transfer) is prepared
    one_metric = replace(tiny, evaluation=replace(tiny.evaluation, metrics=("cka",)))
    assert prepare_evaluation(pairs, one_metric, no_transfer) is prepared
    assert prepare_evaluation(pairs, tiny.untrained(), no_transfer) is prepared
    shuffled = replace(tiny, data=replace(tiny.data, captions="shuffled", dense_fraction=0.5))
    assert prepare_evaluation(pairs, shuffled, no_transfer) is prepared
    longer = replace(tiny, model=replace(tiny.model, max_text_tokens=13))
    assert prepare_evaluation(pairs, longer, no_transfer) is not prepared
    assert len(prepared.held_out) == 48
    assert len(prepared.unseen) == 32


def test_validation_shares_no_pair_with_the_test_and_needs_as_many(tiny, pairs):
    evaluation = tiny.evaluation
    test = of_split(pairs.held_out, evaluation.num_items, evaluation)
    validation = of_split(pairs.held_out, evaluation.num_items, replace(evaluation, split="validation"))
    rows = np.arange(evaluation.num_items)
    assert len(test) == len(validation) == evaluation.num_items
    assert not set(test.keys(rows)) & set(validation.keys(rows))

    many = replace(tiny.evaluation, split="validation", num_items=len(pairs.held_out) // 2 + 1)
    with pytest.raises(UsageError, match=r"lower evaluation\.num_items"):
        of_split(pairs.held_out, 16, many)
