import subprocess
import sys
from dataclasses import replace
from functools import reduce
from operator import add

import pytest
import torch

from aimv2.base.errors import RunFailedError
from aimv2.config.paths import replaced
from aimv2.data.batches.batch import of_step
from aimv2.data.batches.loader import loaded, loader
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.memory.setup import setup_of
from aimv2.model.network import build
from aimv2.spec.objectives import objective
from aimv2.training.engine import Engine
from tests.helpers.loading import whole_batches
from tests.helpers.marks import everyday
from tests.helpers.native import at_native
from tests.helpers.own_data import pictured_source


def load(config, pairs, first_step=0):
    batches = TrainBatches(config, pairs.train, pairs.tokenizer)
    return list(whole_batches(batches, first_step))


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


KINDS = ["scenes", "native scenes", "files", "native files", "hidden files", "shuffled files"]


@pytest.fixture(params=everyday(["native scenes", "native files", "hidden files"], KINDS))
def data(request, longer, tmp_path):
    """Return a run and its data; of the files, some are bad."""
    config = at_native(longer) if "native" in request.param else longer
    if "files" in request.param:
        source = pictured_source(tmp_path / "mine", 60, bad={1: "image", 10: "caption", 17: "empty"})
        config = replaced(config, {"data.sources": (str(source),)})
    if "hidden" in request.param:
        config = replaced(config, {"augment.hidden_fraction": 0.5})
    if "shuffled" in request.param:
        config = replaced(config, {"data.pixels": "shuffled"})
    return config, prepare(config.data, config.model.vocab_size)


@pytest.mark.parametrize("name", everyday(["cappa"], ["aimv2", "cappa"]))
@pytest.mark.parametrize("ranks", everyday([2], [1, 2]))
def test_micro_batches_of_the_loader_are_those_into_which_a_batch_is_cut(data, ranks, name):
    """All of them: images, widths of captions, indices, counts and places. CapPa reads the padding of captions."""
    (config, pairs), goal = data, objective(name)
    config = replaced(config, {"ranks": ranks, "objective.name": name})
    for size in (1, 3, 8):
        config = replace(config, micro_batch=size)
        engine = Engine(goal.load()(build(config), config), config, setup_of(config))
        for rank in range(ranks):
            batches = TrainBatches(config, pairs.train, pairs.tokenizer, rank if ranks > 1 else None)
            steps = loader(batches, micro_batch=size, has_padding=engine.objective.reads_padding)
            for number, parts in enumerate(steps):
                whole, tally = batches[number], reduce(add, (part.tally for part in parts))
                assert tally.counts.tolist() == whole.tally.counts.tolist()
                expected = engine.micro_batches(whole)
                assert sorted(bad for part in parts for bad in part.bad) == sorted(whole.bad)
                for found, part in zip(of_step(parts, whole.tally), expected, strict=True):
                    is_raw = config.data.kind == "files" and not config.augment.hidden_fraction
                    assert found.image.dtype == (torch.uint8 if is_raw else torch.float32)
                    assert_same(found.to(torch.device("cpu")), part)
                    for field in ("num_scored_of_rank", "num_supervised_of_rank", "share"):
                        assert getattr(found, field) == getattr(part, field), field


FAILING_PROCESS = """
from aimv2.data.batches.loader import loaded

items = loaded(range(100), range(100), num_workers=1, pin_memory=False)
next(items)
raise MemoryError("no room")
"""


@pytest.mark.exhaustive
def test_a_process_that_fails_does_not_wait_for_its_loaders():
    """They ignore the signal with which multiprocessing ends them at exit."""
    failed = subprocess.run([sys.executable, "-c", FAILING_PROCESS], capture_output=True, text=True, timeout=300)
    assert failed.returncode == 1
    assert "MemoryError: no room" in failed.stderr


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
