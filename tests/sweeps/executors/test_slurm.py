"""A launch on SLURM, beside other launches."""

import re
from dataclasses import replace

import pytest
from rich.console import Console

from ablations.request import read_requests
from aimv2.base.errors import UsageError
from aimv2.runs.failure import Failure
from sweeps.active_launches import active_launches, cancel
from tests.helpers.slurm import EXECUTOR
from tests.helpers.sweeps import board_of


def test_test_submits_nothing(slurm, tiny, tmp_path, monkeypatch):
    assert EXECUTOR.test([tiny], tmp_path) == ""
    slurm.refuse("sbatch", "sbatch: error: Batch job submission failed: Invalid account")
    with pytest.raises(UsageError, match=r"Invalid account \(executor.account\); nothing was submitted"):
        EXECUTOR.test([tiny], tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    assert EXECUTOR.test([tiny], tmp_path).endswith("was not tested: there is no sbatch on this machine")
    with pytest.raises(UsageError, match="there is no srun on this machine; is it a login node"):
        EXECUTOR.template(tiny, folder=tmp_path, name="sweep-1", code=tmp_path)


def test_workers_begin_at_equal_distances(request_of, launch, submissions):
    launch(request_of(seeds=range(3)), workers=3)
    array, finalizer = submissions()
    assert array.starts == [0, 2, 4]
    assert (array.dependency, finalizer.dependency) == (None, "afterany:7")


def test_an_array_is_no_longer_than_slurm_allows(request_of, launch, submissions, slurm):
    slurm.put("scontrol", "printf 'ClusterName = here\\nMaxArraySize = 3\\n'")
    launch(request_of(seeds=range(2)))
    assert len(submissions()[0].starts) == 2


@pytest.mark.exhaustive
def test_queued_runs_are_left_to_the_launch_that_queued_them(request_of, launch, submissions, slurm, tmp_path):
    """An array and its finalizer job are submitted once; a launch of other arms adds workers for those alone."""
    small, wide = request_of(), request_of(arms=["uniform", "causal"])
    other = replace(wide, cells=[cell for cell in wide.cells if cell.arm != "uniform"])
    plan = launch(small)
    slurm.queue("7_0|PENDING|Resources", "9_0|PENDING|Resources")
    launch(small)
    assert len(submissions()) == 2
    launch(other)
    names = list(dict.fromkeys(cell.name for cell in other.cells))
    assert [names[start] for start in submissions()[2].starts] == [name for name in names if name not in plan.runs]
    assert submissions()[3].dependency == "afterany:9:7"
    launch(wide)
    assert len(submissions()) == 5, "all its runs are queued, but no finalizer job waits for all of them"
    assert sorted(submissions()[4].dependency.split(":")) == ["7", "9", "afterany"]
    launch(replace(small, cells=small.cells[:1]))
    assert len(submissions()) == 5, "the first launch does all its runs"
    assert read_requests(tmp_path / "runs", small.folder, {small.study.slug: small.study})[0].cells == small.cells[:1]


def test_runs_of_an_array_that_has_ended_are_submitted_again(request_of, launch, submissions, slurm):
    """SLURM forgets an array after some minutes, and then no job can wait for it."""
    plan = launch(request_of())
    slurm.queue("8|PENDING|Resources")
    launch(request_of())
    assert len(submissions()[2].starts) == len(plan.runs)
    assert submissions()[3].dependency == "afterany:9"


def test_cancelled_runs_are_submitted_again(request_of, launch, submissions, slurm):
    plan = launch(request_of())
    slurm.queue("7_0|RUNNING|None")
    cancel(active_launches(plan.runs_dir)[0], list(plan.runs))
    launch(request_of())
    assert len(submissions()[2].starts) == len(plan.runs)


def test_a_failed_run_is_submitted_again_while_its_launch_is_queued(request_of, launch, submissions, slurm):
    plan = launch(request_of())
    slurm.queue("7_0|PENDING|Resources")
    failed = list(plan.runs.values())[1]
    with failed.acquire(plan.cell_of[failed.name].config) as attempt:
        attempt.fail(Failure("bug", "a test"), "")
    launch(request_of())
    assert submissions()[2].starts == [1]


def test_the_array_is_withdrawn_where_the_finalizer_job_is_refused(request_of, slurm, launch, tmp_path):
    """Otherwise its workers would run, and lost runs would stay lost."""
    count, withdrawn = tmp_path / "count", tmp_path / "withdrawn"
    slurm.put(
        "sbatch",
        f"[ $1 = --test-only ] && exit 0; echo x >> {count}; if [ $(wc -l < {count}) = 1 ];"
        " then echo 'Submitted batch job 7'; else echo 'sbatch: error: Batch job submission failed: Job violates"
        " accounting/QOS policy' >&2; exit 1; fi",
    )
    slurm.put("scancel", f"echo $* > {withdrawn}")
    with pytest.raises(UsageError, match=r"Job violates accounting/QOS policy \(executor.account or executor.qos\)"):
        launch(request_of())
    assert withdrawn.read_text().strip() == "7"
    assert active_launches(tmp_path / "runs") == []
    assert not list(tmp_path.glob("runs/studies/*"))


def test_launch_prints_how_to_follow_it(request_of, slurm, small, tmp_path):
    request, plan = small
    console = Console(record=True, width=300)
    EXECUTOR.launch(request, plan, plan.work(plan.remaining()), tmp_path / "reports", board_of(plan, console))
    assert re.search(
        r"submitted: 2 workers as array 7, then finalizer job 8, which writes the report; `python sweeps/manage\.py"
        r" status runs_dir=.*/runs` shows their progress",
        console.export_text(),
    )
