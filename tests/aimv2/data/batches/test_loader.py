from dataclasses import replace

import pytest
import torch
from aimv2.base.errors import RunFailedError

from aimv2.data.batches.loader import loaded, loader
from aimv2.data.batches.training import TrainBatches


def load(config, pairs, first_step=0):
    batches = TrainBatches(config, pairs.train, pairs.tokenizer)
    return list(loader(batches, first_step=first_step, pin_memory=False))


def assert_same(one, other):
    assert one.num_scored == other.num_scored
    tensors = [name for name, value in one._asdict().items() if isinstance(value, torch.Tensor)]
    assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors)


@pytest.fixture
def longer(tiny, with_samples):
    return with_samples(tiny, 80)


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize(
    "changes", [{}, {"captions": "shuffled", "weights": (1, 3)}], ids=["default", "mixed and shuffled"]
)
def test_batches_do_not_depend_on_the_number_of_loader_workers(longer, pairs, num_workers, changes):
    longer = replace(longer, data=replace(longer.data, **changes))
    alone = load(longer, pairs)
    config = replace(longer, loader=replace(longer.loader, num_workers=num_workers))
    shared = load(config, pairs)
    assert len(alone) == len(shared) == 10
    for one, other in zip(alone, shared, strict=True):
        assert_same(one, other)
    prefixes = torch.stack([batch.prefix_len_B for batch in alone])
    assert len(torch.unique(prefixes, dim=0)) == 10, "no two batches have the same prefix lengths"


def test_loader_starts_at_any_step(longer, pairs):
    whole, rest = load(longer, pairs), load(longer, pairs, first_step=7)
    assert len(rest) == 3
    for one, other in zip(whole[7:], rest, strict=True):
        assert_same(one, other)


class Broken(torch.utils.data.Dataset):
    """Items of which the third cannot be read."""

    def __getitem__(self, number):
        if number == 2:
            raise RunFailedError("data", "the shard is gone")
        return number


@pytest.mark.parametrize("num_workers", [0, 1])
def test_failure_of_the_run_passes_through_loader_processes(num_workers):
    items = loaded(Broken(), range(4), num_workers=num_workers, pin_memory=False)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(RunFailedError, match="the shard is gone") as caught:
        next(items)
    assert caught.value.cause == "data"
