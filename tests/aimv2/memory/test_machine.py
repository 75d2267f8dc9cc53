"""This machine's memory, and that of its control group."""

import os
import platform
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from aimv2.config.recipes.scales import demo
from aimv2.memory import machine
from aimv2.memory.machine import (
    CORES,
    available_memory,
    missing_for_compile,
    num_cores,
    rank_cores,
    rank_memory,
    rank_shared_memory,
    total_memory,
)


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


GB = 10**9
NO_LIMIT = "9223372036854771712\n"  # as version 1 writes it


@pytest.fixture
def files(tmp_path):
    """Write a machine's files and return its root."""

    def write(own, contents):
        for path, text in {"proc/self/cgroup": own, **contents}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return tmp_path

    return write


def test_the_control_groups_limit_counts_if_it_is_smaller(files):
    group, machines = {"sys/fs/cgroup/memory.current": "9000000\n"}, (64000 * 1024, 32000 * 1024)
    root = files("", {"proc/meminfo": "MemTotal: 64000 kB\nMemAvailable: 32000 kB\n"})
    assert (total_memory(root), available_memory(root)) == machines
    files("0::/\n", group | {"sys/fs/cgroup/memory.max": "10000000\n"})
    assert (total_memory(root), available_memory(root)) == (10_000_000, 1_000_000)
    files("0::/\n", group | {"sys/fs/cgroup/memory.max": f"{10**12}\n"})
    assert (total_memory(root), available_memory(root)) == machines


def test_the_control_groups_quota_counts_if_it_is_smaller_than_the_cores(files):
    cores = len(os.sched_getaffinity(0))
    for own, quota, expected in (("", 0, cores), ("0::/\n", 50_000, 1), ("0::/\n", 10**8, cores)):
        assert num_cores(files(own, {"sys/fs/cgroup/cpu.max": f"{quota} 100000\n"})) == expected


JOB, GROUP, MEMORY, CPU = "system.slice/job_7", "sys/fs/cgroup", "sys/fs/cgroup/memory", "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("own", "contents", "expected"),
    [
        ("", {}, (None, None, None)),
        (  # the job's group limits memory and the user's limits cores; 3 GB are free, and 2 are files
            f"0::/{JOB}/step_0\n",
            {
                f"{GROUP}/{JOB}/step_0/memory.max": "max\n",
                f"{GROUP}/{JOB}/step_0/cpu.max": "max 100000\n",
                f"{GROUP}/{JOB}/memory.max": f"{8 * GB}\n",
                f"{GROUP}/{JOB}/memory.current": f"{5 * GB}\n",
                f"{GROUP}/{JOB}/memory.stat": f"anon {3 * GB}\ninactive_file {2 * GB}\nactive_file 7\n",
                f"{GROUP}/system.slice/cpu.max": "350000 100000\n",
            },
            (8 * GB, 5 * GB, 3.5),
        ),
        (
            "0::/\n",
            {
                f"{GROUP}/memory.max": f"{4 * GB}\n",
                f"{GROUP}/memory.current": f"{5 * GB}\n",
                f"{GROUP}/cpu.max": "50000 100000\n",
            },
            (4 * GB, 0, 0.5),
        ),
        (  # the smallest limit of all parents
            "4:memory:/outer/inner\n1:cpu,cpuacct:/outer\n0::/\n",
            {
                f"{MEMORY}/memory.limit_in_bytes": NO_LIMIT,
                f"{MEMORY}/outer/memory.limit_in_bytes": f"{6 * GB}\n",
                f"{MEMORY}/outer/memory.usage_in_bytes": f"{2 * GB}\n",
                f"{MEMORY}/outer/inner/memory.limit_in_bytes": f"{9 * GB}\n",
                f"{MEMORY}/outer/inner/memory.usage_in_bytes": f"{6 * GB}\n",
                f"{MEMORY}/outer/inner/memory.stat": f"inactive_file 1\ntotal_inactive_file {GB // 2}\n",
                f"{CPU}/outer/cpu.cfs_quota_us": "200000\n",
                f"{CPU}/outer/cpu.cfs_period_us": "100000\n",
                f"{CPU}/cpu.cfs_quota_us": "-1\n",
                f"{CPU}/cpu.cfs_period_us": "100000\n",
            },
            (6 * GB, 3.5 * GB, 2),
        ),
        (
            "4:memory:/docker/abc\n",
            {f"{MEMORY}/memory.limit_in_bytes": f"{2 * GB}\n", f"{MEMORY}/memory.usage_in_bytes": f"{GB}\n"},
            (2 * GB, GB, None),
        ),
    ],
    ids=["no groups", "2, of SLURM", "2, its group is the root", "1, of parents", "1, its path is the host's"],
)
def test_limits_are_those_of_the_control_groups_of_versions_1_and_2(files, own, contents, expected):
    root, limits = files(own, contents), (machine.memory_limit, machine.memory_left, machine.cgroup_cores)
    assert tuple(limit(root) for limit in limits) == expected
    assert [limit(root / "none") for limit in limits] == [None] * 3


@pytest.mark.parametrize(
    ("own", "contents", "expected"),
    [
        (  # version 2 counts those of a group's own processes and of groups within it
            "0::/job_7/step_0\n",
            {
                "sys/fs/cgroup/job_7/step_0/memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 0\n",
                "sys/fs/cgroup/job_7/memory.events": "oom_kill 9\n",
            },
            2,
        ),
        (
            "4:memory:/job_7\n0::/\n",
            {"sys/fs/cgroup/memory/job_7/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"},
            4,
        ),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n", "proc/vmstat": "pgfault 12\noom_kill 5\n"}, 5),
        ("", {}, 0),
    ],
    ids=["version 2", "version 1", "no group counts", "nothing counts"],
)
def test_kills_for_lack_of_memory_are_those_of_the_own_group(files, own, contents, expected):
    assert machine.oom_kills(files(own, contents)) == expected


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="drivers are looked up on Linux only")
def test_has_cuda_loads_torch_only_where_a_driver_is(tmp_path):
    check = "import sys, aimv2.memory.machine as all; print(all.has_cuda(sys.argv[1:]), 'torch' in sys.modules)"
    absent = [sys.executable, "-c", check, str(tmp_path / "absent"), str(tmp_path / "none")]
    assert subprocess.run(absent, check=True, capture_output=True, text=True).stdout == "False False\n"
    present = subprocess.run([*absent, str(tmp_path)], check=True, capture_output=True, text=True).stdout
    assert present.endswith(" True\n")


@pytest.mark.parametrize(("device", "variable", "name"), [("cpu", "CXX", "C[+][+]"), ("cuda", "CC", "C")])
def test_missing_compiler_is_named(monkeypatch, tmp_path, device, variable, name):
    monkeypatch.setenv(variable, "own-compiler")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert re.fullmatch(rf"a {name} compiler \(own-compiler\)", missing_for_compile(device))
    compiler = tmp_path / "own-compiler"
    compiler.touch(mode=0o755)
    assert "compiler" not in str(missing_for_compile(device))
    monkeypatch.delenv(variable)
    assert "g" in missing_for_compile(device)


COUNT = """
import resource, sys
import torch
from aimv2.memory.machine import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    assert keep_freed_memory()
faults(), faults()  # the first ones may lie where the next one does not fit
print(faults())
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")
def test_a_tensor_takes_the_memory_of_a_freed_one():
    """Oracle: the kernel's count of pages that it maps; a tensor of 64 MB has 16384 of 4 kB, or 32 huge ones."""
    default, kept = (int(subprocess.check_output([sys.executable, "-c", COUNT, name])) for name in ("default", "keep"))
    assert kept < 16 < 32 <= default
