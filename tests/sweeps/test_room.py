"""Room for workers: whatever there is least of decides."""

from dataclasses import replace

import pytest

from aimv2.errors import UsageError
from aimv2.resolve import with_attention
from aimv2.scales import demo
from sweeps import room as room_module
from sweeps.executors import LocalConfig
from sweeps.room import available_memory, memory_bytes, room


@pytest.fixture
def base():
    return replace(with_attention(demo()), device="cpu")


@pytest.fixture
def machine(monkeypatch):
    def make(*, cores=8, memory=64e9, gpus=0):
        monkeypatch.setattr(room_module, "num_cores", lambda: cores)
        monkeypatch.setattr(room_module, "available_memory", lambda: memory)
        monkeypatch.setattr(room_module, "num_gpus", lambda: gpus)

    return make


def test_cores_memory_or_gpus_decide(base, machine):
    machine()
    assert room([base]).workers == 8
    assert room([base, replace(base, threads=3)]).workers == 2
    machine(memory=3.5 * memory_bytes(base))
    assert room([base]).workers == 3
    machine(gpus=2)
    assert room([replace(base, device="cuda")]).workers == 2


def test_more_workers_than_there_is_room_for_are_refused(base, machine):
    machine(cores=2)
    assert LocalConfig(cluster="local").num_workers([base]) == 2
    assert LocalConfig(cluster="debug").num_workers([base]) == 1
    with pytest.raises(UsageError, match=r"executor.workers=3 is more than the 2 that this machine's 2 cores"):
        LocalConfig(cluster="local", workers=3).num_workers([base])
    with pytest.raises(UsageError, match="no run fits this machine: its 2 cores have room for at threads=5"):
        LocalConfig(cluster="local").num_workers([replace(base, threads=5)])
    machine(memory=1e8)
    with pytest.raises(UsageError, match=r"its 0.1 GB of free memory have room for, .* GB each"):
        LocalConfig(cluster="local").num_workers([base])


def test_this_machine_says_how_much_memory_is_free():
    assert 10**8 < available_memory() < 10**14


def test_weights_and_activations_take_memory(base):
    larger = replace(base, budget=replace(base.budget, batch_size=64))
    assert memory_bytes(larger) > memory_bytes(base) > room_module.PROCESS_BYTES
