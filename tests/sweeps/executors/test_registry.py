"""Executors by their names, and launches that are jobs of a scheduler."""

import pytest

from aimv2.base.errors import UsageError
from sweeps.executors.local import DebugExecutor, LocalExecutor
from sweeps.executors.registry import EXECUTORS, default_values, end_abandoned, executor_of
from sweeps.executors.slurm import SlurmExecutor


def test_an_executor_is_made_from_its_values():
    values = default_values()
    assert executor_of(values["debug"]) == DebugExecutor()
    assert executor_of(values["local"] | {"workers": 3}) == LocalExecutor(workers=3)
    assert executor_of(values["slurm"] | {"more": ["hold"]}) == SlurmExecutor(more=("hold",))
    with pytest.raises(UsageError, match=r"executor: workers: Input should be greater than 0"):
        executor_of(values["slurm"] | {"workers": 0})
    with pytest.raises(UsageError, match=r"unknown executor.cluster 'here'. Allowed: debug, local, slurm"):
        executor_of(values["local"] | {"cluster": "here"})


@pytest.mark.parametrize("name", EXECUTORS)
def test_an_executor_bears_its_name(name):
    assert EXECUTORS[name]().cluster == name


@pytest.mark.parametrize(("cluster", "is_ended"), [("here", True), ("elsewhere", False)])
def test_a_launch_without_jobs_in_the_queue_is_ended_on_its_own_cluster(launched, small, slurm, cluster, is_ended):
    runs_dir = small[1].runs_dir
    slurm.put("scontrol", f"echo 'ClusterName = {cluster}'")
    slurm.queue("8|PENDING|Dependency")
    end_abandoned(runs_dir)
    assert launched.exists(), "it has a job"
    slurm.queue()
    end_abandoned(runs_dir)
    assert launched.exists() != is_ended
