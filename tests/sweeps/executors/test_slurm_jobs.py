"""The jobs of a launch on SLURM, called in this process."""

import signal
import threading
from dataclasses import replace

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import read_request
from aimv2.base.errors import UsageError
from aimv2.memory.setup import USABLE
from aimv2.runs.failure import Failure
from aimv2.sweeps.active_launches import active_launches, cancel
from aimv2.sweeps.executors.slurm_commands import queue
from aimv2.sweeps.executors.slurm_jobs import ArrayWorker, end_job
from aimv2.sweeps.machine.room import largest_run
from aimv2.sweeps.status.status import in_queue
from aimv2.sweeps.worker import WorkerReport
from tests.helpers.machine import machine
from tests.helpers.slurm import EXECUTOR
from tests.helpers.sweeps import board_of


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
    """Clusters without accounting answer that it is disabled."""
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


@pytest.mark.parametrize(
    ("runs_per_gpu", "max_runs", "num_runs", "expected"),
    [(1, 1, 9, 1), (3, 3, 9, 3), (3, 3, 2, 2), ("auto", 4, 9, 2), ("auto", 4, 1, 1)],
)
def test_num_processes_of_an_array_worker(tiny, tmp_path, runs_per_gpu, max_runs, num_runs, expected):
    gpu = machine(gpu_memory=2.5 * largest_run([tiny], 10**12).needed / USABLE)
    worker = ArrayWorker(tmp_path, 0, replace(EXECUTOR, runs_per_gpu=runs_per_gpu, cpus_per_task=max_runs))
    assert worker.num_processes([tiny] * num_runs, gpu) == expected


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
