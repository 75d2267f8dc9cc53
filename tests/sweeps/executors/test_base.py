"""Executors by their names, launches that are jobs of a scheduler, and the end of a launch."""

from dataclasses import replace

import pytest
from rich.console import Console

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import read_request, write_request
from aimv2.base.errors import UsageError
from aimv2.sweeps.active_launches import active_launches
from aimv2.sweeps.executors import BUILT_IN
from aimv2.sweeps.executors.base import (
    chosen_executor,
    end_abandoned,
    executor_of,
    executor_values,
    finish,
    queue_of,
    withdraw,
)
from aimv2.sweeps.executors.local import DebugExecutor, LocalExecutor
from aimv2.sweeps.executors.slurm import SlurmExecutor
from aimv2.sweeps.plan import Plan


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
    assert list(values) == list(BUILT_IN)
    assert [name for name in values if values[name]] == ["local"]
    assert executor_values("nowhere") == {name: {} for name in BUILT_IN}


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
    assert withdraw(active) == "2 workers as array 7: executor=elsewhere is unknown here"


@pytest.fixture
def ended(copied, tmp_path):
    """Finish a launch of a finished sweep's runs, and of these cells; return the outcome and what was printed."""

    def run(more=(), own=()):
        request = read_request(copied, "prefix_ratio", STUDIES)
        plan = Plan(request.folder, [*request.cells, *more], copied, (request,))
        console = Console(record=True, width=200)
        is_complete = finish(plan, plan.work(own), tmp_path / "reports", console)
        assert "report: " in console.export_text(clear=False)
        assert (tmp_path / "reports" / "prefix_ratio" / "report.md").exists()
        return is_complete, console.export_text()

    return run


def test_a_launch_whose_runs_are_done_is_complete(ended):
    is_complete, printed = ended()
    assert is_complete
    assert "missing" not in printed


@pytest.mark.exhaustive
def test_runs_that_the_launch_did_not_have_do_not_fail_it(ended, copied):
    """As of a retry, which has failed runs only."""
    cell = read_request(copied, "prefix_ratio", STUDIES).cells[0]
    other = replace(cell, seed=7, config=replace(cell.config, seed=7))
    is_complete, printed = ended([other])
    assert is_complete
    assert "runs that are still missing: 1; launch the sweep again to execute them" in printed
    is_complete, printed = ended([other], own=[other.name])
    assert not is_complete
    assert f"seed 7 ({other.name}) not done" in printed
    assert "still missing" not in printed


@pytest.mark.exhaustive
def test_a_broken_result_fails_the_launch_and_the_report_shows_it(ended, copied, tmp_path):
    cell = read_request(copied, "prefix_ratio", STUDIES).cells[0]
    (path := copied / cell.name / "result.json").write_text("broken")
    is_complete, printed = ended()
    assert not is_complete
    assert f"{path} is not the result of a run; delete {path.parent} to repeat the run" in printed
    report = (tmp_path / "reports" / "prefix_ratio" / "report.md").read_text()
    assert "result.json is not the result of a run" in report


@pytest.mark.exhaustive
def test_reports_are_written_in_the_order_of_the_requests(copied, tmp_path):
    request = read_request(copied, "prefix_ratio", STUDIES)
    other = replace(request, study=replace(request.study, suffix="first"))
    write_request(copied, other)
    plan, console = Plan(request.folder, request.cells, copied, (other, request)), Console(record=True, width=200)
    assert finish(plan, plan.work([]), tmp_path / "reports", console)
    lines = [line for line in console.export_text().splitlines() if line.startswith("report: ")]
    assert lines == [f"report: {tmp_path / 'reports' / one.folder / 'report.md'}" for one in (other, request)]
