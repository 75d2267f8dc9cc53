"""A launch on SLURM, beside other launches."""

import re

import pytest
from rich.console import Console

from aimv2.base.errors import UsageError
from sweeps.active_launches import active_launches
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


def test_launch_prints_what_it_has_submitted(request_of, slurm, small, tmp_path):
    _, plan = small
    console = Console(record=True, width=300)
    EXECUTOR.launch(plan, plan.work(plan.remaining()), tmp_path / "reports", board_of(plan, console))
    assert re.search(
        r"submitted: 2 workers as array 7, then finalizer job 8, which submits lost runs again and writes the report",
        console.export_text(),
    )
