"""Collectives of 1, 2 and 4 ranks."""

import pytest
import torch
from torch import nn

from aimv2.training.world import ALONE
from tests.helpers.ranks import on_ranks

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool)


def result_of(item):
    """Return tensors of different shapes and types, also empty ones, and other values."""
    if item % 6 == 5:
        return {"item": item}
    return (torch.arange(item * 3) * (item + 1)).view(item, 3).T.to(DTYPES[item % 6])


def divided(world, num_items):
    """Return the items that each rank computed, and all results as the last rank has them."""
    computed = []

    def compute(item):
        computed.append(item)
        return result_of(item)

    results = world.divided(range(num_items), compute)
    results = [world.of(world.size - 1, result) for result in results]
    return [world.of(rank, computed) for rank in range(world.size)], results


@pytest.mark.parametrize(("ranks", "num_items"), [(2, 13), (4, 13), (4, 2), (2, 0)])
def test_items_are_divided_and_results_reach_all_ranks_in_order(tmp_path, ranks, num_items):
    computed, results = on_ranks(ranks, tmp_path, divided, num_items)
    assert computed == [list(range(rank, num_items, ranks)) for rank in range(ranks)]
    assert len(results) == num_items
    for item, result in enumerate(results):
        expected = result_of(item)
        if isinstance(expected, dict):
            assert result == expected
        else:
            assert result.dtype == expected.dtype
            assert torch.equal(result, expected)


def test_one_process_computes_all_items():
    assert list(ALONE.divided([3, 1, 2], lambda item: item + 1)) == [4, 2, 3]
    assert ALONE.of(0, "value") == "value"


def equal_weights(world):
    module = nn.BatchNorm1d(3).double()
    with torch.no_grad():
        for value in module.state_dict().values():
            value += world.rank + 1
    world.equalise(module)
    return [world.of(rank, value) for rank in range(world.size) for value in module.state_dict().values()]


def test_all_ranks_get_the_weights_and_buffers_of_rank_0(tmp_path):
    own = nn.BatchNorm1d(3).double().state_dict().values()
    for value, expected in zip(on_ranks(2, tmp_path, equal_weights), [*own, *own], strict=True):
        assert torch.equal(value, expected + 1)
