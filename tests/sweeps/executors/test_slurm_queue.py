import pytest

from sweeps.active_launches import active_launches
from sweeps.executors.slurm_queue import end_abandoned, withdraw


@pytest.mark.parametrize(
    ("queue", "withdrawn", "is_ended"),
    [
        (["7_0|PENDING|Resources", "7_1|PENDING|Resources", "8|PENDING|Dependency"], ["--state=PENDING 7", "8"], True),
        (["7_0|RUNNING|None", "7_1|PENDING|Resources", "8|PENDING|Dependency"], ["--state=PENDING 7"], False),
        (["8|PENDING|JobHeldUser"], ["8"], True),
    ],
)
def test_withdraw_takes_a_cancelled_launch_out_of_the_queue(launched, slurm, tmp_path, queue, withdrawn, is_ended):
    slurm.queue(*queue)
    slurm.put("scancel", f"echo $* >> {tmp_path}/withdrawn")
    assert withdraw(active_launches(launched.parents[1])[0]) == ""
    assert (tmp_path / "withdrawn").read_text().splitlines() == withdrawn
    assert launched.exists() != is_ended


def test_withdraw_reports_what_stays_in_the_queue(launched, slurm):
    (active,) = active_launches(launched.parents[1])
    slurm.refuse("squeue", "")
    assert withdraw(active) == "2 workers as array 7: SLURM does not answer; cancel again when it does"
    slurm.queue("7_0|PENDING|Resources")
    slurm.refuse("scancel", "scancel: error: Kill job error on job id 7: Access/permission denied")
    assert withdraw(active).endswith("SLURM's scancel reports: Kill job error on job id 7: Access/permission denied")


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
