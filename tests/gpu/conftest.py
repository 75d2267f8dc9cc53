"""Counters of the fake GPU, and groups of ranks of which this process is the first."""

from dataclasses import dataclass

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore

from aimv2.training.world import ALONE, World
from tests.gpu.fake_gpu import NAME, counter


@pytest.fixture(autouse=True)
def device(request):
    """Fail on another device than the mark names."""
    wants_fake = request.node.get_closest_marker("fake_gpu") is not None
    found = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    assert (found == NAME) is wants_fake, f"make test-{'fake-' * wants_fake}gpu; the GPU here: {found}"


@dataclass
class Copies:
    """Counts since the last ``reset``.

    Attributes:
        to_host: copies from the GPU to the host.
        pageable: copies from memory of the host that is not pinned, for which the host waits.
    """

    to_host: int = 0
    pageable: int = 0

    def reset(self):
        for name in ("copies_to_host", "pageable_copies"):
            counter(name).value = 0

    def read(self):
        self.to_host, self.pageable = (counter(name).value for name in ("copies_to_host", "pageable_copies"))


@pytest.fixture
def copies():
    return Copies()


@pytest.fixture
def world_of(monkeypatch):
    """A function that returns the first of so many ranks, whose collectives return what this rank gave."""

    def hook(state, bucket):
        done = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    # The reducer asks for the result of its collectives, which torch's group without other ranks does not have.
    original = DistributedDataParallel.__init__

    def with_hook(self, *arguments, **options):
        original(self, *arguments, **options)
        self.register_comm_hook(None, hook)

    def of(ranks):
        if ranks == 1:
            return ALONE
        monkeypatch.setattr(DistributedDataParallel, "__init__", with_hook)
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
        return World(size=ranks)

    yield of
    if dist.is_initialized():
        dist.destroy_process_group()
