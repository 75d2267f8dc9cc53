"""Room for workers: whatever there is least of decides."""

import os
from dataclasses import replace

import pytest

from aimv2.config.resolve import with_attention
from aimv2.config.scales import demo
from aimv2.errors import UsageError
from sweeps.executors.local import LocalConfig
from sweeps.machine import cgroup
from sweeps.machine import room as room_module
from sweeps.machine.room import available_memory, memory_bytes, num_cores, room, shortage, total_memory


@pytest.fixture
def base():
    return replace(with_attention(demo()), device="cpu")


@pytest.fixture
def machine(monkeypatch):
    def make(*, cores=8, memory=64e9, free=None, gpus=0):
        monkeypatch.setattr(room_module, "num_cores", lambda: cores)
        monkeypatch.setattr(room_module, "total_memory", lambda: memory)
        monkeypatch.setattr(room_module, "available_memory", lambda: memory if free is None else free)
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
    with pytest.raises(UsageError, match=r"its 0.1 GB of memory have room for, .* GB each"):
        LocalConfig(cluster="local").num_workers([base])


def test_memory_that_others_have_is_waited_for(base, machine):
    needed = memory_bytes(base)
    machine(memory=3.5 * needed, free=0.5 * needed)
    assert LocalConfig(cluster="local").num_workers([base]) == 3, "nothing is refused: it will be free again"
    assert "are free: workers wait for more" in shortage([base])
    machine(memory=3.5 * needed, free=needed)
    assert shortage([base]) == ""


def test_the_smallest_limit_counts(monkeypatch):
    machine, free = total_memory(), available_memory()
    monkeypatch.setattr(cgroup, "memory_limit", lambda: 10**8)
    monkeypatch.setattr(cgroup, "memory_left", lambda: 10**7)
    assert (total_memory(), available_memory()) == (10**8, 10**7)
    monkeypatch.setattr(cgroup, "memory_limit", lambda: 2 * machine)
    monkeypatch.setattr(cgroup, "memory_left", lambda: 2 * machine)
    assert total_memory() == machine
    assert available_memory() == pytest.approx(free, rel=0.5)
    for limit, cores in ((0.5, 1), (1.9, 1), (1e6, len(os.sched_getaffinity(0))), (None, len(os.sched_getaffinity(0)))):
        monkeypatch.setattr(cgroup, "cores", lambda limit=limit: limit)
        assert num_cores() == cores


def test_this_machine_says_how_much_memory_is_free():
    assert 10**8 < available_memory() <= total_memory() < 10**14


def test_weights_and_activations_take_memory(base):
    larger = replace(base, budget=replace(base.budget, batch_size=64))
    assert memory_bytes(larger) > memory_bytes(base) > room_module.PROCESS_BYTES
