"""Limits of control groups, from files as in both versions of Linux's interface."""

import pytest

from aimv2.memory import cgroup

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


def test_there_is_no_limit_without_groups(tmp_path):
    assert (cgroup.memory_limit(tmp_path), cgroup.memory_left(tmp_path), cgroup.cores(tmp_path)) == (None, None, None)


def test_version_2_reads_the_limits_of_a_slurm_job(files):
    """The job's group limits memory and the user's limits cores; the step of the process has no limit."""
    job = "sys/fs/cgroup/system.slice/job_7"
    root = files(
        "0::/system.slice/job_7/step_0\n",
        {
            f"{job}/step_0/memory.max": "max\n",
            f"{job}/step_0/cpu.max": "max 100000\n",
            f"{job}/memory.max": f"{8 * GB}\n",
            f"{job}/memory.current": f"{5 * GB}\n",
            f"{job}/memory.stat": f"anon {3 * GB}\ninactive_file {2 * GB}\nactive_file 7\n",
            "sys/fs/cgroup/system.slice/cpu.max": "350000 100000\n",
        },
    )
    assert cgroup.memory_limit(root) == 8 * GB
    assert cgroup.memory_left(root) == 5 * GB, "3 GB are free, and 2 are files that can be read again"
    assert cgroup.cores(root) == 3.5


def test_version_2_reads_a_container_that_sees_its_group_as_the_root(files):
    root = files(
        "0::/\n",
        {
            "sys/fs/cgroup/memory.max": f"{4 * GB}\n",
            "sys/fs/cgroup/memory.current": f"{5 * GB}\n",
            "sys/fs/cgroup/cpu.max": "50000 100000\n",
        },
    )
    assert (cgroup.memory_limit(root), cgroup.memory_left(root), cgroup.cores(root)) == (4 * GB, 0, 0.5)


def test_version_1_reads_the_smallest_limit_of_all_parents(files):
    memory = "sys/fs/cgroup/memory"
    root = files(
        "4:memory:/outer/inner\n1:cpu,cpuacct:/outer\n0::/\n",
        {
            f"{memory}/memory.limit_in_bytes": NO_LIMIT,
            f"{memory}/outer/memory.limit_in_bytes": f"{6 * GB}\n",
            f"{memory}/outer/memory.usage_in_bytes": f"{2 * GB}\n",
            f"{memory}/outer/inner/memory.limit_in_bytes": f"{9 * GB}\n",
            f"{memory}/outer/inner/memory.usage_in_bytes": f"{6 * GB}\n",
            f"{memory}/outer/inner/memory.stat": f"inactive_file 1\ntotal_inactive_file {GB // 2}\n",
            "sys/fs/cgroup/cpu,cpuacct/outer/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu,cpuacct/outer/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert cgroup.memory_limit(root) == 6 * GB
    assert cgroup.memory_left(root) == 3.5 * GB
    assert cgroup.cores(root) == 2


def test_version_1_reads_a_container_whose_path_is_the_hosts(files):
    root = files(
        "4:memory:/docker/abc\n",
        {
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GB}\n",
        },
    )
    assert (cgroup.memory_limit(root), cgroup.memory_left(root)) == (2 * GB, GB)
    assert cgroup.cores(root) is None


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
    assert cgroup.oom_kills(files(own, contents)) == expected
