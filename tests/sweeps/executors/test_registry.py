"""Executors by their names, those of other packages, and launches that are jobs of a scheduler."""

import re
from dataclasses import replace

import pytest

from aimv2.base.errors import UsageError
from aimv2.base.plugins import using
from aimv2.sweeps.active_launches import Jobs, active_launches, new_launch, write_jobs
from aimv2.sweeps.executors.local import DebugExecutor, LocalExecutor
from aimv2.sweeps.executors.registry import (
    EXECUTORS,
    abandoned,
    chosen_executor,
    end_abandoned,
    executor_of,
    executor_values,
    queue_of,
    withdraw,
)
from aimv2.sweeps.executors.slurm import SlurmExecutor
from aimv2.sweeps.freeze import freeze


def test_an_executor_is_made_from_its_values():
    values = {name: executor_values(name)[name] for name in ("debug", "local", "slurm")}
    assert executor_of("debug", values["debug"]) == DebugExecutor()
    assert executor_of("local", values["local"] | {"workers": 3}) == LocalExecutor(workers=3)
    assert executor_of("slurm", values["slurm"] | {"more": ["hold"]}) == SlurmExecutor(more=("hold",))
    with pytest.raises(UsageError, match=r"executor: workers: Input should be greater than 0"):
        executor_of("slurm", values["slurm"] | {"workers": 0})


def test_the_last_word_chooses_the_executor():
    assert chosen_executor(["sweep=eos", "executor.workers=2"]) == "local"
    assert chosen_executor(["executor=slurm", "executor.minutes=2"]) == "slurm"


def test_only_the_keys_of_the_chosen_executor_are_read():
    values = executor_values("local")
    assert list(values) == list(EXECUTORS)
    assert [name for name in values if values[name]] == ["local"]
    assert executor_values("nowhere") == {name: {} for name in EXECUTORS}


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


def test_the_jobs_of_an_executor_that_is_not_installed_are_unknown(launched, small):
    """Another user's launch must not end the commands of this one."""
    (active,) = active_launches(small[1].runs_dir)
    active = replace(active, jobs=replace(active.jobs, executor="elsewhere"))
    assert queue_of(active) is None
    assert withdraw(active).startswith("2 workers as array 7: unknown executor 'elsewhere'. Allowed: debug, ")


def test_only_a_launch_with_jobs_is_abandoned(launched, small, slurm):
    runs_dir = small[1].runs_dir
    assert abandoned(runs_dir) == [launched]
    (launched / "jobs.json").unlink()
    assert abandoned(runs_dir) == []


FAILING = """
from dataclasses import dataclass
from aimv2.sweeps.executors.base import Executor
from aimv2.sweeps.executors.registry import executor

@executor("toy")
@dataclass(frozen=True)
class Toy(Executor):
    def num_workers(self, runs):
        return 1

    def launch(self, plan, work, reports_dir, board):
        return False

    @staticmethod
    def queue(launch):
        raise RuntimeError("no kubectl on this host")

    withdraw = queue
"""


def test_a_plug_in_that_fails_stops_nobody_else(tmp_path, plugged):
    """Every launch asks for abandoned ones, and the display for queues."""
    plugged(FAILING)
    folder = new_launch(tmp_path / "runs", "eos", [])
    write_jobs(folder, Jobs({"1": 2}, "2", "", executor="toy"))
    (launch,) = active_launches(tmp_path / "runs")
    assert queue_of(launch) is None
    assert withdraw(launch) == "2 workers as array 1: no kubectl on this host"
    end_abandoned(tmp_path / "runs")
    assert active_launches(tmp_path / "runs") == [launch]


ABANDONED = """
    @classmethod
    def abandoned(cls, launch):
        return launch.study == "eos"
"""


def test_an_executor_may_know_otherwise_which_launches_are_abandoned(tmp_path, plugged):
    """This one has no queue and no finalizer job."""
    plugged(FAILING + ABANDONED)
    for study in ("eos", "norm_ffn"):
        write_jobs(new_launch(tmp_path / "runs", study, []), Jobs({"1": 2}, "", "", executor="toy"))
    end_abandoned(tmp_path / "runs")
    assert [one.study for one in active_launches(tmp_path / "runs")] == ["norm_ffn"]


def test_later_commands_find_it_in_the_snapshot_of_the_launch(tmp_path):
    path = tmp_path / "toys.py"
    path.write_text(FAILING.replace('RuntimeError("no kubectl on this host")', "RuntimeError(__file__)"))
    with using([path]):
        write_jobs(new_launch(tmp_path / "runs", "eos", []), Jobs({"1": 2}, "2", "", executor="toy"))
        code = freeze(tmp_path / "runs")
    path.unlink()
    assert "toy" not in EXECUTORS
    with using([]):
        (launch,) = active_launches(tmp_path / "runs")
        assert withdraw(launch).startswith(f"2 workers as array 1: {code}/plugins/")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("(Executor):", ":"), "Toy'> is not a dataclass that inherits from Executor"),
        (("def launch", "def lunch"), "Toy has neither starting() nor launch()"),
        (("    def num", "    image: str\n\n    def num"), "Toy has fields without a default: image"),
        (('@executor("toy")', '@executor("local")'), "the executor 'local' exists already, built in"),
    ],
)
def test_a_plug_in_that_is_no_executor_is_one_sentence(plugged, change, reason):
    with pytest.raises(UsageError, match=re.escape(reason)):
        plugged(FAILING.replace(*change, 1))
    assert list(EXECUTORS) == ["debug", "local", "slurm"]
