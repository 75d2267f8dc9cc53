"""This machine's memory, and that of its control group."""

import os
from dataclasses import replace

from aimv2.config.recipes.scales import demo
from aimv2.memory.machine import available_memory, num_cores, rank_memory, total_memory


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
