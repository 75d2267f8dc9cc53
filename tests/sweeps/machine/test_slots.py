"""Slots are locks of open files, so several holders within this process exclude each other as processes do."""

import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch

from aimv2.sweeps.machine.slots import core_slots, gpu_slot, in_use, memory_slot, run_slots
from tests.helpers.machine import machine

GB = 10**9
HOLD = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from aimv2.sweeps.machine.room import Machine
from aimv2.sweeps.machine.slots import core_slots, memory_slot
here = Machine(num_cores=lambda: 3, available_memory=lambda: 10 * 10**9, resident_memory=lambda pid: 0)
with core_slots(2, here, "a study in /runs") as cores, memory_slot(7 * 10**9, here) as memory:
    print(cores and memory, flush=True)
    time.sleep(600)
"""
THREE_CORES = machine(cores=3, free=10 * GB)


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


def test_what_is_in_use_names_other_processes_and_their_work(holder):
    held = f"core-0, core-1 by process {holder.pid} (a study in /runs)"
    with core_slots(2, THREE_CORES) as too_many, core_slots(1, THREE_CORES) as free:
        assert (too_many, free) == (False, True)
        assert in_use() == held
    holder.kill()
    holder.wait()
    assert in_use() == ""


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
