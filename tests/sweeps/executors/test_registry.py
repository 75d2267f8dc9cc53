"""Executors by their names, those of other packages, and launches that are jobs of a scheduler."""

import sys
from dataclasses import replace

import pytest

from aimv2.base.errors import UsageError
from aimv2.sweeps.active_launches import Jobs, active_launches, new_launch, write_jobs
from aimv2.sweeps.executors.local import DebugExecutor, LocalExecutor
from aimv2.sweeps.executors.registry import (
    BUILT_IN,
    abandoned,
    chosen_executor,
    end_abandoned,
    executor_class,
    executor_names,
    executor_of,
    executor_values,
    queue_of,
    withdraw,
)
from aimv2.sweeps.executors.slurm import SlurmExecutor
from tests.helpers.plugins import install


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
    assert list(values) == executor_names()
    assert [name for name in values if values[name]] == ["local"]
    assert executor_values("nowhere") == {name: {} for name in executor_names()}


def test_an_unknown_name_is_answered_with_those_that_exist(tmp_path, monkeypatch):
    install(tmp_path, "toy", "toys:Toy", monkeypatch)
    with pytest.raises(UsageError, match=r"unknown executor 'to'\. Did you mean 'toy'\?|Allowed: .*toy"):
        executor_class("to")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "has no attribute 'Toy'"),
        ("import a_package_that_is_missing", "No module named 'a_package_that_is_missing'"),
        ("1 / 0", "division by zero"),
        ("class Toy: ...", "it is no dataclass that inherits from aimv2.sweeps.executors.base.Executor"),
    ],
)
def test_an_executor_that_cannot_be_loaded_is_one_sentence(tmp_path, monkeypatch, source, reason):
    install(tmp_path, "toy", "toys:Toy", monkeypatch, toys=source)
    with pytest.raises(UsageError) as error:
        executor_class("toy")
    assert str(error.value).startswith("executor=toy (toys:Toy of toy-executors) cannot be loaded: ")
    assert reason in str(error.value)
    assert "pip install" not in str(error.value)


def test_ours_take_precedence_over_an_entry_point_of_the_same_name(tmp_path, monkeypatch):
    install(tmp_path, "local", "toys:Toy", monkeypatch, toys="1 / 0")
    assert executor_class("local") is LocalExecutor
    assert executor_names() == list(BUILT_IN)


def test_an_executor_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "aimv2.sweeps.executors.ray", raising=False)
    with pytest.raises(UsageError, match=r"cannot be loaded: .*ray.*; run: pip install 'aimv2-ablations\[ray\]'"):
        executor_class("ray")


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


def test_a_plug_in_that_fails_stops_nobody_else(tmp_path, monkeypatch):
    """Every launch asks for abandoned ones, and the display for queues."""
    install(tmp_path, "toy", "toys:Toy", monkeypatch, toys=FAILING)
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


def test_an_executor_may_know_otherwise_which_launches_are_abandoned(tmp_path, monkeypatch):
    """This one has no queue and no finalizer job."""
    install(tmp_path, "toy", "toys:Toy", monkeypatch, toys=FAILING + ABANDONED)
    for study in ("eos", "norm_ffn"):
        write_jobs(new_launch(tmp_path / "runs", study, []), Jobs({"1": 2}, "", "", executor="toy"))
    end_abandoned(tmp_path / "runs")
    assert [one.study for one in active_launches(tmp_path / "runs")] == ["norm_ffn"]


def test_a_plug_in_that_starts_nothing_is_refused(tmp_path, monkeypatch):
    install(tmp_path, "toy", "toys:Toy", monkeypatch, toys=FAILING.replace("def launch", "def lunch"))
    with pytest.raises(UsageError, match=r"^executor=toy .*: it has neither starting\(\) nor launch\(\)"):
        executor_class("toy")


def test_a_plug_in_with_a_field_without_a_default_is_one_sentence(tmp_path, monkeypatch):
    source = FAILING.replace("    def num_workers", "    image: str\n\n    def num_workers", 1)
    install(tmp_path, "toy", "toys:Toy", monkeypatch, toys=source)
    with pytest.raises(UsageError, match=r"^executor=toy has a field without a default: .*image"):
        executor_values("toy")
