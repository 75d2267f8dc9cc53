"""This machine's memory, and that of its control group."""

import os
from dataclasses import replace

import pytest

from aimv2.config.recipes.scales import demo
from aimv2.memory.machine import (
    CORES,
    available_memory,
    num_cores,
    rank_cores,
    rank_memory,
    rank_shared_memory,
    total_memory,
)


def test_the_control_groups_limit_counts_if_it_is_smaller(tmp_path):
    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    write("proc/meminfo", "MemTotal: 64000 kB\nMemAvailable: 32000 kB\n")
    assert (total_memory(tmp_path), available_memory(tmp_path)) == (64000 * 1024, 32000 * 1024)
    write("proc/self/cgroup", "0::/\n")
    write("sys/fs/cgroup/memory.max", "10000000\n")
    write("sys/fs/cgroup/memory.current", "9000000\n")
    assert (total_memory(tmp_path), available_memory(tmp_path)) == (10_000_000, 1_000_000)
    write("sys/fs/cgroup/memory.max", f"{10**12}\n")
    assert (total_memory(tmp_path), available_memory(tmp_path)) == (64000 * 1024, 32000 * 1024)


def test_ranks_share_the_memory_of_their_machine(monkeypatch):
    run = replace(demo(), device="cpu")
    assert rank_memory(run) == total_memory()
    assert rank_memory(replace(run, ranks=4)) == total_memory() // 4
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert rank_memory(replace(run, ranks=4)) == total_memory() // 2
    assert rank_memory(run) == total_memory(), "one rank has all of it"


def test_ranks_share_the_cores_of_their_machine_unless_a_launch_says_how_many_each_has(monkeypatch):
    monkeypatch.delenv(CORES, raising=False)
    run = demo()
    assert rank_cores(run) == num_cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert rank_cores(replace(run, ranks=4)) == max(num_cores() // 2, 1)
    assert rank_cores(run) == num_cores(), "one rank has all of them"
    monkeypatch.setenv(CORES, "1")
    assert rank_cores(replace(run, ranks=4)) == 1
    monkeypatch.setenv(CORES, "100000")
    assert rank_cores(run) == num_cores(), "not more than there are"


def test_ranks_share_the_shared_memory_of_their_machine(tmp_path):
    """Of any file system; it may change between two looks."""
    alone, of_four = (rank_shared_memory(replace(demo(), ranks=ranks), tmp_path) for ranks in (1, 4))
    assert alone == pytest.approx(4 * of_four, rel=0.1)
    assert rank_shared_memory(demo(), tmp_path / "none") == total_memory()


def test_the_control_groups_quota_counts_if_it_is_smaller_than_the_cores(tmp_path):
    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    cores = len(os.sched_getaffinity(0))
    assert num_cores(tmp_path) == cores
    write("proc/self/cgroup", "0::/\n")
    write("sys/fs/cgroup/cpu.max", "50000 100000\n")
    assert num_cores(tmp_path) == 1
    write("sys/fs/cgroup/cpu.max", "100000000 100000\n")
    assert num_cores(tmp_path) == cores
