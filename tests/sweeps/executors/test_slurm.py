"""A launch on SLURM: job scripts, the keys of the executor, other launches, and the jobs, called in this process."""

import os
import re
import shlex
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import read_request
from aimv2.base.errors import UsageError
from aimv2.config.training_config import LoaderConfig
from aimv2.runs.failure import Failure
from aimv2.sweeps.active_launches import Queued, active_launches, cancel
from aimv2.sweeps.executors.slurm import SlurmExecutor, end_job
from aimv2.sweeps.executors.slurm_commands import queue, submit
from aimv2.sweeps.progress import in_queue
from aimv2.sweeps.worker import WorkerReport
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


def test_workers_begin_at_equal_distances(request_of, launch, submissions, slurm):
    launch(request_of(seeds=range(3)), workers=3)
    array, finalizer = submissions()
    assert array.starts == [0, 2, 4]
    assert (array.dependency, finalizer.dependency) == (None, "afterany:7")
    slurm.put("scontrol", "printf 'ClusterName = here\\nMaxArraySize = 3\\n'")
    launch(request_of(seeds=range(2)))
    assert len(submissions()[-2].starts) == 2, "no longer than SLURM allows"


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
    with pytest.raises(UsageError, match=r"Job violates accounting/QOS policy"):
        launch(request_of())
    assert withdrawn.read_text().strip() == "7"
    assert active_launches(tmp_path / "runs") == []
    assert not list(tmp_path.glob("runs/studies/*"))


@pytest.fixture
def active(launched):
    """That launch, as its record shows it."""
    (found,) = active_launches(launched.parents[1])
    return found


def test_the_queue_is_read(slurm, active):
    def described():
        return in_queue(active.jobs, EXECUTOR.queue(active))

    slurm.queue("7|RUNNING|None", "7|PENDING|Resources", "7|PENDING|Resources", "8|PENDING|Dependency")
    assert EXECUTOR.queue(active)[1] == Queued("7", "PENDING", "Resources")
    assert described() == "2 workers as array 7: 1 RUNNING, 2 PENDING (Resources)"
    slurm.queue()
    assert EXECUTOR.queue(active) == []
    slurm.refuse("squeue", "slurm_load_jobs error: Unable to contact slurm controller")
    assert EXECUTOR.queue(active) is None
    assert "UNKNOWN" in described()


@pytest.mark.parametrize(("user", "cluster", "answer"), [(0, "here", []), (1, "here", None), (0, "elsewhere", None)])
def test_an_empty_queue_is_evidence_for_ones_own_jobs_only(slurm, active, monkeypatch, user, cluster, answer):
    """SLURM may hide other users' jobs (PrivateData), and never shows another cluster's."""
    active = replace(active, jobs=replace(active.jobs, cluster=cluster))
    uid = os.getuid() + user
    monkeypatch.setattr(os, "getuid", lambda: uid)
    assert EXECUTOR.queue(active) == answer
    slurm.queue("8|PENDING|Dependency")
    assert EXECUTOR.queue(active) == [Queued("8", "PENDING", "Dependency")]


@pytest.mark.parametrize(
    ("queue", "withdrawn", "is_ended"),
    [
        (["7|PENDING|Resources", "7|PENDING|Resources", "8|PENDING|Dependency"], ["--state=PENDING 7", "8"], True),
        (["7|RUNNING|None", "7|PENDING|Resources", "8|PENDING|Dependency"], ["--state=PENDING 7"], False),
        (["8|PENDING|JobHeldUser"], ["8"], True),
    ],
)
def test_withdraw_takes_a_cancelled_launch_out_of_the_queue(active, slurm, tmp_path, queue, withdrawn, is_ended):
    slurm.queue(*queue)
    slurm.put("scancel", f"echo $* >> {tmp_path}/withdrawn")
    assert EXECUTOR.withdraw(active) == ""
    assert (tmp_path / "withdrawn").read_text().splitlines() == withdrawn
    assert active.folder.exists() != is_ended


def test_withdraw_reports_what_stays_in_the_queue(active, slurm):
    slurm.refuse("squeue", "")
    assert EXECUTOR.withdraw(active) == "2 workers as array 7: SLURM does not answer; cancel again when it does"
    slurm.queue("7|PENDING|Resources")
    slurm.refuse("scancel", "scancel: error: Kill job error on job id 7: Access/permission denied")
    assert EXECUTOR.withdraw(active).endswith(
        "SLURM's scancel reports: Kill job error on job id 7: Access/permission denied"
    )


@pytest.fixture
def script_of(slurm, tiny, tmp_path):
    """Submit jobs; return the script that sbatch received, with placeholders for paths and ids."""

    def run(jobs, *, after=(), ranks=1, device="cpu", loader=tiny.loader, **more):
        template = replace(EXECUTOR, **more).template(
            replace(tiny, ranks=ranks, device=device, loader=loader),
            folder=tmp_path / "jobs",
            name="sweep-1",
            code=Path("/shared/code"),
            after=after,
        )
        submit(template, jobs)
        text = "\n".join(slurm.submissions(tmp_path)[-1].script)
        text = text.replace(str(tmp_path), "TMP").replace(shlex.quote(sys.executable), "PYTHON")
        return re.sub(r"[0-9a-f]{32}", "ID", text).strip().splitlines()

    return run


def test_the_array_is_pinned(script_of):
    """A change here is a change for every user of a cluster."""
    given = {"partition": "main", "account": "a1", "gres": "gpu:1", "setup": ("module load cuda",)}
    script = script_of(
        [print, print, print], minutes=30, signal_seconds=45, array_parallelism=2, more=("reservation=r",), **given
    )
    assert script == [
        "#!/bin/bash",
        "",
        "# Parameters",
        "#SBATCH --account=a1",
        "#SBATCH --array=0-2%2",
        "#SBATCH --cpus-per-task=1",
        "#SBATCH --error=TMP/jobs/%A_%a/%A_%a_0_log.err",
        "#SBATCH --gres=gpu:1",
        "#SBATCH --job-name=sweep-1",
        "#SBATCH --nodes=1",
        "#SBATCH --open-mode=append",
        "#SBATCH --output=TMP/jobs/%A_%a/%A_%a_0_log.out",
        "#SBATCH --partition=main",
        "#SBATCH --requeue",
        "#SBATCH --reservation=r",
        "#SBATCH --signal=USR2@45",
        "#SBATCH --time=30",
        "#SBATCH --wckey=submitit",
        "",
        "# setup",
        "module load cuda",
        "export OMP_NUM_THREADS=1",
        "export MKL_NUM_THREADS=1",
        "export OPENBLAS_NUM_THREADS=1",
        "export TOKENIZERS_PARALLELISM=false",
        "export PYTHONSAFEPATH=1",
        "export AIMV2_CORES=1",
        "export SRUN_CPUS_PER_TASK=1",
        "export PYTHONPATH=/shared/code${PYTHONPATH:+:$PYTHONPATH}",
        "",
        "# command",
        "export SUBMITIT_EXECUTOR=slurm",
        "srun --unbuffered --output TMP/jobs/%A_%a/%A_%a_%t_log.out --error TMP/jobs/%A_%a/%A_%a_%t_log.err PYTHON -u"
        " -m submitit.core._submit TMP/jobs/%j",
    ]


def test_the_finalizer_job_is_pinned(script_of):
    """It waits for the arrays and requests a core, whatever they request."""
    given = {"gres": "gpu:1", "gpus_per_node": 2, "mem": "80GB", "cpus_per_task": 8}
    script = script_of(
        [print], after=["17", "18"], ranks=4, nodes=2, more=("gpus-per-task=1", "exclusive", "reservation=r"), **given
    )
    assert [line for line in script if line.startswith("#SBATCH") or "PYTHON " in line] == [
        "#SBATCH --cpus-per-task=1",
        "#SBATCH --dependency=afterany:17:18",
        "#SBATCH --error=TMP/jobs/%j/%j_0_log.err",
        "#SBATCH --job-name=sweep-1",
        "#SBATCH --nodes=1",
        "#SBATCH --open-mode=append",
        "#SBATCH --output=TMP/jobs/%j/%j_0_log.out",
        "#SBATCH --requeue",
        "#SBATCH --reservation=r",
        "#SBATCH --signal=USR2@90",
        "#SBATCH --time=60",
        "#SBATCH --wckey=submitit",
        "PYTHON -u -m submitit.core._submit TMP/jobs/%j",
    ]


def test_ranks_are_spread_over_nodes(script_of, tiny):
    lines = script_of([print], ranks=8, nodes=2)
    assert lines[lines.index("#SBATCH --nodes=2") + 1] == "#SBATCH --ntasks-per-node=4"
    with pytest.raises(UsageError, match=r"ranks=1 cannot be spread evenly over executor\.nodes=2"):
        replace(EXECUTOR, nodes=2).check([tiny])
    with pytest.raises(UsageError, match=r"executor\.workers=3 and ranks=2: such runs need one job each"):
        replace(EXECUTOR, workers=3).check([tiny, replace(tiny, ranks=2)])


def test_an_element_with_a_gpu_has_cores_for_loader_processes(script_of):
    given = LoaderConfig(num_workers=2)
    assert "#SBATCH --cpus-per-task=8" in script_of([print], device="cuda")
    assert "#SBATCH --cpus-per-task=3" in script_of([print], device="cuda", loader=given)
    assert "export AIMV2_CORES=4" in script_of([print], device="cuda", cpus_per_task=4)


@pytest.mark.parametrize(("workers", "number"), [(None, 7), (2, 2), (9, 7)])
def test_there_are_no_more_workers_than_runs(tiny, workers, number):
    assert replace(EXECUTOR, workers=workers).num_workers([tiny] * 7) == number


LONG_NAMES = "it takes long names without leading dashes"
OF_LAUNCH = "that are not set by the launch"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        *(({"more": (key,)}, OF_LAUNCH) for key in ("dependency=afterok:5", "time=10", "partition=main", "requeue")),
        *(({"more": (key,)}, LONG_NAMES) for key in ("Reservation", "--hold", "a b", "x;y", "x=a\nb")),
        ({"minutes": 1}, "signal_seconds=90 leaves nothing of minutes=1: workers would be interrupted"),
    ],
)
def test_keys_that_a_job_cannot_have_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        replace(EXECUTOR, **values)


def test_device_is_that_of_the_requested_nodes():
    def device(**more):
        return SlurmExecutor(**more).device

    assert device() == device(gres="license:1") == "cpu"
    assert (
        device(gres="gpu:a100:1")
        == device(gres="shard:1")
        == device(gpus_per_node=2)
        == device(more=("gpus-per-task=1",))
        == "cuda"
    )


@pytest.fixture
def signals():
    """The SIGUSR2 that this process received."""
    received = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: received.append(number))
    yield received
    signal.signal(signal.SIGUSR2, before)


def lose_a_worker(plan):
    """Have a worker die over the first run."""
    first = next(iter(plan.runs.values()))
    with first.acquire(plan.cell_of[first.name].config):
        pass


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_job_requests_a_requeue_only_where_slurm_does_not(signals, number):
    """submitit requeues on the SIGUSR2 that is raised at the end."""
    end_job(WorkerReport(signal=number))
    assert signals == [signal.SIGUSR2] * (number == signal.SIGUSR2)


def test_a_job_fails_with_its_workers_problem():
    with pytest.raises(UsageError, match="a full disk"):
        end_job(WorkerReport(problem="a full disk"))


@pytest.mark.exhaustive
def test_a_launch_goes_from_array_to_report_without_accounting(slurm, small, tmp_path):
    request, plan = small
    called = tmp_path / "called"
    slurm.put("sacct", f"touch {called}; echo 'Slurm accounting storage is disabled' >&2; exit 1")
    EXECUTOR.launch(plan, plan.work(plan.runs), tmp_path / "reports", board_of(plan))
    slurm.queue("7|RUNNING|None", "7|PENDING|Resources")
    (active,) = active_launches(plan.runs_dir)
    assert "1 RUNNING, 1 PENDING (Resources)" in in_queue(active.jobs, queue(active.folder.name))
    array, finalizer = slurm.submissions(plan.runs_dir)
    names = list(plan.runs)
    assert array.jobs[1]().done == [names[1], names[0]], "it begins with its own run"
    finalizer.jobs[0]()
    assert (tmp_path / "reports" / request.folder / "report.md").exists()
    assert active_launches(plan.runs_dir) == []
    assert array.jobs[0]().done == [], "requeued after all was over"
    assert not called.exists()


def test_lost_runs_are_submitted_again_unless_no_worker_tried_one(small, launched, finalizer, slurm):
    request, plan = small
    lose_a_worker(plan)
    finalizer()
    array, _ = slurm.submissions(plan.runs_dir)
    assert array.starts == list(range(len(plan.runs)))
    assert launched.exists()
    replace(finalizer, num_attempts=sum(run.num_attempts for run in plan.runs.values()))()
    assert len(slurm.submissions(plan.runs_dir)) == 2
    assert not launched.exists()
    assert read_request(plan.runs_dir, request.folder, STUDIES) == request


def test_the_finalizer_waits_for_runs_that_others_hold(small, finalizer, slurm):
    _, plan = small
    first = next(iter(plan.runs.values()))
    attempt = first.acquire(plan.cell_of[first.name].config)
    waiting = threading.Thread(target=finalizer)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    assert slurm.submissions(plan.runs_dir) == []
    with attempt:
        attempt.fail(Failure("bug", "a test"), "")
    waiting.join()
    assert len(slurm.submissions(plan.runs_dir)) == 2, "the other run had no worker"


def test_a_waiting_finalizer_requests_a_requeue_before_its_time_is_up(small, finalizer):
    class SignalledError(Exception):
        pass

    def raise_error(number, frame):
        raise SignalledError

    _, plan = small
    first = next(iter(plan.runs.values()))
    first.acquire(plan.cell_of[first.name].config)
    executor = replace(EXECUTOR, minutes=1, signal_seconds=59)
    before = signal.signal(signal.SIGUSR2, raise_error)
    try:
        with pytest.raises(SignalledError):
            replace(finalizer, executor=executor)()
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_lost_runs_that_cannot_be_submitted_again_are_in_the_report(
    small, launched, finalizer, slurm, tmp_path, capsys
):
    request, plan = small
    lose_a_worker(plan)
    slurm.refuse("sbatch", "sbatch: error: Batch job submission failed: Access denied")
    finalizer()
    assert "cannot be submitted again: SLURM's sbatch reports: Access denied" in capsys.readouterr().out
    assert (tmp_path / "reports" / request.folder / "report.md").exists()
    assert not launched.exists()


def test_the_finalizer_submits_nothing_of_a_cancelled_launch(small, launched, finalizer, slurm):
    _, plan = small
    lose_a_worker(plan)
    cancel(active_launches(plan.runs_dir)[0], list(plan.runs))
    finalizer()
    assert slurm.submissions(plan.runs_dir) == []
    assert not launched.exists()
