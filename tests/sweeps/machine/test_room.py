"""Room for workers: the scarcest resource decides."""

import os
from dataclasses import replace

import pytest

from aimv2.base.errors import UsageError
from aimv2.config.recipes.scales import demo, vit_l_2b
from aimv2.memory.setup import USABLE
from aimv2.request.resolve import with_attention
from aimv2.sweeps.executors.local import DebugExecutor, LocalExecutor
from aimv2.sweeps.machine.room import (
    Room,
    largest_bytes,
    largest_run,
    resident_memory,
    resolve_runs_per_gpu,
    room,
)
from tests.helpers.machine import machine

GB = 10**9


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
    assert LocalExecutor().num_workers([base], two_cores) == 2
    assert DebugExecutor().num_workers([base], two_cores) == 1
    with pytest.raises(UsageError, match=r"executor.workers=3 is more than the 2 that fit: this machine has 2 cores"):
        LocalExecutor(workers=3).num_workers([base], two_cores)
    with pytest.raises(UsageError, match=r"no run fits this machine: it has 2 cores, and a run needs 5 \(threads=5\)"):
        LocalExecutor().num_workers([replace(base, threads=5)], two_cores)
    with pytest.raises(UsageError, match=r"it has 0.1 GB of memory \(0.1 usable\), and a run needs .* GB"):
        LocalExecutor().num_workers([base], machine(memory=1e8))


def test_num_workers_counts_shares_of_a_gpu(base):
    on_gpu, two_gpus = replace(base, device="cuda"), machine(gpus=2, gpu_memory=80 * GB)
    assert LocalExecutor(runs_per_gpu=3).num_workers([on_gpu], two_gpus) == 6
    assert LocalExecutor(runs_per_gpu="auto").num_workers([on_gpu], two_gpus) == 8, "of 8 cores"
    with pytest.raises(UsageError, match=r"executor.workers=7 is more than the 6 that fit: .* has 2 GPUs"):
        LocalExecutor(workers=7, runs_per_gpu=3).num_workers([on_gpu], two_gpus)


def test_runs_per_gpu_auto_divides_the_memory_by_the_largest_runs(base):
    large = replace(base, budget=replace(base.budget, batch_size=2048))
    of_three = int(3.1 * memory_bytes(large) / USABLE)
    assert resolve_runs_per_gpu("auto", [base, large], machine(gpu_memory=of_three)) == 3
    assert resolve_runs_per_gpu("auto", [base], machine(gpu_memory=of_three)) > 3
    assert resolve_runs_per_gpu("auto", [base], machine(gpu_memory=0)) == 1
    assert resolve_runs_per_gpu(5, [base], machine(gpu_memory=0)) == 5


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
