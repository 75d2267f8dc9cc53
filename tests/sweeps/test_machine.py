"""Room for workers: the scarcest resource decides. Slots are locks of open files, so several holders within this
process exclude each other as processes do."""

import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch

from aimv2.base.errors import UsageError
from aimv2.config.recipes.scales import demo, vit_l_2b
from aimv2.request.resolve import with_attention
from aimv2.sweeps.executors.local import DebugExecutor, LocalExecutor
from aimv2.sweeps.machine import (
    Machine,
    Room,
    core_slots,
    gpu_slot,
    largest_bytes,
    largest_run,
    memory_slot,
    resident_memory,
    room,
    run_slots,
)

GB = 10**9


def machine(*, cores=8, memory=64e9, free=None, gpus=0, gpu_memory=0, resident=lambda pid: 0):
    return Machine(
        num_cores=lambda: cores,
        total_memory=lambda: int(memory),
        available_memory=lambda: int(memory if free is None else free),
        resident_memory=resident,
        num_gpus=lambda: gpus,
        gpu_memory=lambda: int(gpu_memory),
    )


HOLD = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from aimv2.sweeps.machine import Machine, core_slots, memory_slot
here = Machine(num_cores=lambda: 3, available_memory=lambda: 10 * 10**9, resident_memory=lambda pid: 0)
with core_slots(2, here) as cores, memory_slot(7 * 10**9, here) as memory:
    print(cores and memory, flush=True)
    time.sleep(600)
"""
THREE_CORES = machine(cores=3, free=10 * GB)


@pytest.fixture
def base():
    return replace(with_attention(demo()), device="cpu", precision="float32")


def memory_bytes(run):
    """The bytes that a run takes where there is enough memory."""
    return largest_run([run], 64 * GB).needed


def test_room_is_limited_by_cores_memory_or_gpus(base):
    assert room([base], machine=machine()).workers == 8
    assert room([base, replace(base, threads=3)], machine=machine()).workers == 2
    assert room([base], machine=machine(memory=3.5 * memory_bytes(base))).workers == 3
    on_gpu = replace(base, device="cuda")
    assert room([on_gpu], machine=machine(gpus=2)).workers == 2
    assert room([on_gpu], 3, machine(gpus=2)).workers == 6
    assert room([on_gpu], 3, machine(gpus=2, cores=4)).workers == 4


def test_a_worker_has_room_for_all_ranks_of_a_run(base):
    two = replace(base, ranks=2)
    assert room([two, base], machine=machine()).workers == 4
    assert room([replace(two, threads=3)], machine=machine()).workers == 1
    assert room([two], machine=machine(memory=7 * memory_bytes(two))).workers == 3
    assert largest_bytes([two], machine()) == 2 * memory_bytes(two)
    on_gpu = replace(two, device="cuda")
    assert room([on_gpu], machine=machine(gpus=5)).workers == 2
    none = room([replace(on_gpu, ranks=8)], machine=machine(cores=64, gpus=5))
    assert none == Room(0, "has 5 GPUs, and a run needs 8 (ranks=8)")
    assert room([replace(two, threads=5)], machine=machine()).limit == (
        "has 8 cores, and a run needs 10 (ranks=2, threads=5)"
    )
    assert room([two], machine=machine(memory=1e8)).limit.endswith(" GB for each rank")


def test_num_workers_refuses_more_than_there_is_room_for(base):
    two_cores = machine(cores=2)
    two_gpus = machine(gpus=2, gpu_memory=80 * GB)
    with pytest.raises(UsageError, match=r"executor.workers=7 is more than the 6 that fit: .* has 2 GPUs"):
        LocalExecutor(workers=7, runs_per_gpu=3).num_workers([replace(base, device="cuda")], two_gpus)
    assert LocalExecutor().num_workers([base], two_cores) == 2
    assert DebugExecutor().num_workers([base], two_cores) == 1
    with pytest.raises(UsageError, match=r"executor.workers=3 is more than the 2 that fit: this machine has 2 cores"):
        LocalExecutor(workers=3).num_workers([base], two_cores)
    with pytest.raises(UsageError, match=r"no run fits this machine: it has 2 cores, and a run needs 5 \(threads=5\)"):
        LocalExecutor().num_workers([replace(base, threads=5)], two_cores)
    with pytest.raises(UsageError, match=r"it has 0.1 GB of memory \(0.1 usable\), and a run needs .* GB"):
        LocalExecutor().num_workers([base], machine(memory=1e8))


def test_busy_memory_is_waited_for_and_not_refused(base):
    needed = memory_bytes(base)
    busy = machine(memory=3.5 * needed, free=0.5 * needed)
    assert LocalExecutor().num_workers([base], busy) == 3


def test_processes_have_plausible_memory():
    assert 10**7 < resident_memory(os.getpid()) < 10**11
    assert resident_memory(2**31 - 1) == 0, "no such process"


def test_a_batch_that_does_not_fit_is_computed_in_parts(base):
    large = replace(base, budget=replace(base.budget, samples=0, batch_size=2**14))
    small = machine(memory=4 * GB)
    assert memory_bytes(large) > 4 * GB
    assert room([large], machine=small).workers == 1
    whole = room([replace(large, micro_batch=2**14, activation_checkpointing=False)], machine=small)
    assert whole.workers == 0
    assert "has 4.0 GB of memory (3.6 usable), and a run needs" in whole.limit


def test_a_run_that_no_gpu_holds_is_refused(base):
    on_gpu = replace(with_attention(vit_l_2b()), device="cuda", precision="bfloat16")
    assert room([on_gpu], machine=machine(gpus=2, gpu_memory=80 * GB)).workers == 2
    small = room([on_gpu], machine=machine(gpus=2, gpu_memory=8 * GB))
    assert small.workers == 0
    assert "has 8.0 GB of memory (7.2 usable), and a run needs" in small.limit


@pytest.fixture
def holder(own_slots):
    """A process that holds two of three cores and 7 of 10 GB."""
    command = [sys.executable, "-c", HOLD, os.environ["TMPDIR"]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "True"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_core_slots_are_at_most_the_number_of_cores():
    for _ in range(2):  # they are free again after their context
        with core_slots(2, THREE_CORES) as first, core_slots(2, THREE_CORES) as second:
            assert (first, second) == (True, False)
            with core_slots(1, THREE_CORES) as third:
                assert third, "the holder that found too few left them to others"


def test_slots_of_a_killed_process_are_free(holder):
    with core_slots(2, THREE_CORES) as cores, memory_slot(4 * GB, THREE_CORES) as memory:
        assert (cores, memory) == (False, False)
    holder.kill()
    holder.wait()
    with core_slots(3, THREE_CORES) as cores, memory_slot(10 * GB, THREE_CORES) as memory:
        assert (cores, memory) == (True, True)


def test_allocated_memory_is_not_reserved_as_well(holder):
    """The holder has allocated 6 of its 7 GB: the system reports 4 of 10 GB as free, and 1 GB is still reserved."""
    here = machine(free=4 * GB, resident=lambda pid: 6 * GB if pid == holder.pid else 0)
    with memory_slot(int(3.1 * GB), here) as is_free:
        assert not is_free
    with memory_slot(3 * GB, here) as is_free:
        assert is_free


def test_memory_slots_are_at_most_the_free_memory():
    with (
        memory_slot(7 * GB, THREE_CORES) as first,
        memory_slot(4 * GB, THREE_CORES) as too_large,
        memory_slot(2 * GB, THREE_CORES) as third,
    ):
        assert (first, too_large, third) == (True, False, True)
    with memory_slot(10 * GB, THREE_CORES) as is_free:
        assert is_free


def test_memory_that_this_process_holds_counts_as_its_own():
    with memory_slot(12 * GB, machine(free=10 * GB, resident=lambda pid: 2 * GB)) as is_free:
        assert is_free


def gpus_held(*shares, gpus=2):
    """The GPUs of holders that ask for these shares, one after the other, and all keep theirs."""
    with ExitStack() as held:
        return [held.enter_context(gpu_slot(runs_per_gpu, machine(gpus=gpus))) for runs_per_gpu in shares]


@pytest.mark.parametrize(
    ("shares", "gpus"),
    [
        ((1, 1, 1), [0, 1, None]),
        ((2, 2, 2, 2, 2), [0, 1, 0, 1, None]),  # spread over the GPUs first
        ((1, 2, 2, 2), [0, 1, 1, None]),  # a whole GPU is not shared
        ((2, 1, 1, 2), [0, 1, None, 0]),  # and a shared one not taken whole
        ((3, 2, 2, 2, 3, 3, 3), [0, 1, 0, 1, 0, 1, None]),  # at most the larger number
    ],
)
def test_gpu_slots_have_as_many_holders_as_requested(shares, gpus):
    assert gpus_held(*shares) == gpus
    assert gpus_held(*shares) == gpus, "they are free again"


@pytest.fixture
def devices(monkeypatch):
    """The GPUs that became this process's device."""
    devices = []
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    return devices


def test_run_slots_set_the_processes_gpu(tiny, devices):
    run, here = replace(tiny, device="cuda", threads=2), machine(gpus=2)
    with (
        run_slots(run, int, machine=here) as first,
        run_slots(run, int, machine=here) as second,
        run_slots(run, int, machine=here) as third,
        run_slots(tiny, int, machine=here) as on_cpu,
    ):
        assert [first, second, third, on_cpu] == [[0], [1], None, []]
    assert devices == [0, 1]


def test_run_slots_hold_a_gpu_for_each_rank_or_none(tiny, devices):
    two, here = replace(tiny, device="cuda", ranks=2), machine(gpus=5)
    four = replace(two, ranks=4, budget=replace(tiny.budget, batch_size=8))
    with (
        run_slots(two, int, machine=here) as first,
        run_slots(four, int, machine=here) as too_many,
        run_slots(two, int, machine=here) as third,
    ):
        assert [first, too_many, third] == [[0, 1], None, [2, 3]]
    assert devices == [0, 2]


def test_run_slots_hold_cores_for_each_rank(tiny):
    with run_slots(replace(tiny, ranks=2), int, machine=THREE_CORES) as two:
        assert two == []
        with run_slots(replace(tiny, ranks=2), int, machine=THREE_CORES) as too_many:
            assert too_many is None


def test_run_slots_without_memory_hold_no_cores(tiny):
    with run_slots(replace(tiny, threads=3), lambda: 11 * GB, machine=THREE_CORES) as gpus:
        assert gpus is None
    with core_slots(3, THREE_CORES) as is_free:
        assert is_free
