"""A worker: acquire a run, execute it, and take the next one until no run is left."""

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import submitit

from aimv2.config.run_config import RunConfig
from aimv2.errors import UsageError
from aimv2.runs.files import share
from aimv2.runs.interrupt import Interrupts
from aimv2.runs.lease import LeaseLostError, file_system_time
from aimv2.runs.record import RunFolder
from sweeps.active_launches import WAITING, cancelled, runs_dir_of, worker_of
from sweeps.machine.room import largest_bytes
from sweeps.machine.slots import run_slots

SLOT_POLL_SECONDS = 0.5
SIGNAL_POLL_SECONDS = 0.5
RESERVE_SECONDS = 60.0  # of a worker's time, for the current step and a checkpoint; at most a tenth of that time
TRIES = 2  # of a run whose worker or node failed: a second try, since the run may not be the cause


@dataclass(frozen=True)
class Task:
    """A run to do.

    Attributes:
        tries: number of tries before this launch. A launch tries a failed run once more, not again and again.
    """

    name: str
    config: RunConfig
    tries: int

    def is_open(self, runs_dir: Path) -> bool:
        """True if the run is running or this launch still has to do it."""
        run = RunFolder(runs_dir, self.name)
        state = run.state(file_system_time)
        if state in ("done", "running"):
            return state == "running"
        failure = run.failure() if state == "failed" else None
        return run.num_tries - self.tries < (TRIES if failure is None or failure.cause == "node" else 1)


@dataclass
class WorkerReport:
    """The runs that a worker did, and the time that it took.

    Attributes:
        done: names of the runs.
        cpu_seconds: of the worker and its loader processes.
        signal: the signal that interrupted the worker, or None.
        was_out_of_time: True if the worker ended because its time was nearly up.
        was_cancelled: True if its launch was cancelled.
        seconds: wall time since the worker was requested.
        working_seconds: the part of it spent in training and evaluation.
        problem: why the worker cannot do any run (an unwritable runs folder, say); empty if there is no problem.
    """

    done: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0
    signal: int | None = None
    was_out_of_time: bool = False
    was_cancelled: bool = False
    seconds: float = 0.0
    working_seconds: float = 0.0
    problem: str = ""


def work(
    tasks: Sequence[Task],
    launch_dir: Path,
    on_rows: Callable[[list[dict[str, Any]]], None] = lambda rows: None,
    *,
    minutes: float | None = None,
    requested_at: float | None = None,
    runs_per_gpu: int | None = 1,
    interrupts: Interrupts | None = None,
) -> WorkerReport:
    """Do every task that no other worker has, one at a time.

    After a signal (SIGINT, SIGTERM, SIGUSR2), or when its time is nearly up, the worker saves a checkpoint, releases
    its run and returns. A run in evaluation is finished when the time is up, but not after a signal.

    Args:
        launch_dir: folder of the worker's launch, in which the launch may be cancelled.
        on_rows: called with each group of new metric rows, for a display in the same process.
        minutes: the worker's time; None is no limit.
        requested_at: when the worker was requested, by ``time.time``; None is now.
        runs_per_gpu: workers that may share a GPU; None where a scheduler assigns cores and GPUs, so that the worker
            takes no slots.
    """
    before, requested_at = sum(os.times()[:4]), requested_at or time.time()
    runs_dir, report, interrupts = runs_dir_of(launch_dir), WorkerReport(), interrupts or Interrupts()
    memory_needed = cache(lambda: largest_bytes(task.config for task in tasks))
    share(runs_dir)
    try:
        # submitit ignores SIGTERM and SIGUSR2 until we listen.
        with interrupts.listening(), worker_of(launch_dir) as folder:
            if minutes is not None:
                interrupts.until(time.monotonic() + seconds_to_work(minutes))
            while cancelled(launch_dir) is None and any(task.is_open(runs_dir) for task in tasks):
                with run_slots(tasks[0].config, memory_needed, runs_per_gpu) as has_slots:
                    _show_waiting(folder / WAITING, not has_slots)
                    if has_slots:
                        _do_all(tasks, launch_dir, on_rows, interrupts, report)
                if has_slots or interrupts.is_out_of_time:
                    break
                time.sleep(SLOT_POLL_SECONDS)
    except KeyboardInterrupt:
        pass
    except (UsageError, OSError) as error:
        report.problem = str(error)
    report.signal = interrupts.signal
    report.was_out_of_time = interrupts.is_out_of_time
    report.was_cancelled = cancelled(launch_dir) is not None
    report.cpu_seconds = sum(os.times()[:4]) - before  # user and system time, that of child processes included
    report.seconds = time.time() - requested_at
    return report


def work_in_processes(num_processes: int, tasks: Sequence[Task], launch_dir: Path) -> WorkerReport:
    """Do the tasks in several processes that share a GPU, and wait for all of them.

    A signal is passed on, so that each process saves a checkpoint and releases its run.

    Returns:
        The signal, and a problem if a process died. The runs' folders record the rest.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    processes = [context.Process(target=_exit_with_problem, args=(tasks, launch_dir)) for _ in range(num_processes)]
    with Interrupts().listening() as interrupts, contextlib.suppress(KeyboardInterrupt), interrupts.deferred():
        try:
            for process in processes:
                process.start()
            while running := [process for process in processes if process.is_alive()]:
                if interrupts.was_signalled:
                    for process in running:
                        process.terminate()  # repeated, since a process that is just starting can miss it
                wait([process.sentinel for process in running], SIGNAL_POLL_SECONDS)
        finally:
            for process in processes:  # after a second Ctrl-C
                if process.is_alive():
                    process.kill()
    dead = sum(process.exitcode != 0 for process in processes)
    has_died = dead and not interrupts.was_signalled
    problem = f"{dead} of {num_processes} workers on this GPU ended early; this job's log has the reason"
    return WorkerReport(signal=interrupts.signal, problem=problem if has_died else "")


def seconds_to_work(minutes: float) -> float:
    """Return the part of a worker's time after which it ends its run."""
    return 60 * minutes - min(RESERVE_SECONDS, 0.1 * 60 * minutes)


def _show_waiting(file: Path, is_waiting: bool) -> None:
    """Tell other processes, and once the user, whether this worker waits for a slot."""
    with contextlib.suppress(OSError):  # a full disk
        if is_waiting:
            if not file.exists():
                print("waiting for a free core, GPU or memory", file=sys.stderr)
            file.touch()
        else:
            file.unlink(missing_ok=True)


def _do_all(
    tasks: Sequence[Task],
    launch_dir: Path,
    on_rows: Callable[[list[dict[str, Any]]], None],
    interrupts: Interrupts,
    report: WorkerReport,
) -> None:
    """Do every free task."""
    from aimv2.execute import execute  # before a run is acquired: a broken installation is not a run's failure

    runs_dir = runs_dir_of(launch_dir)
    for task in tasks:
        if not task.is_open(runs_dir):
            continue
        attempt = RunFolder(runs_dir, task.name).acquire(task.config, log=_log())
        if attempt is None:
            continue
        interrupts.also_when(partial(_must_release, task.name, launch_dir))
        try:
            if execute(attempt, task.config, on_rows, interrupts) is None:
                report.done.append(task.name)
        except LeaseLostError:
            pass
        finally:
            report.working_seconds += attempt.working_seconds
        # Checked after a run and not before it: however short its time, a worker takes a run one step further.
        if interrupts.is_requested or cancelled(launch_dir) is not None:
            return


def _must_release(run: str, launch_dir: Path) -> bool:
    return run in (cancelled(launch_dir) or ())


def _log() -> str:
    """Return the path of this process's log, which submitit writes; empty if this is no worker process."""
    try:
        return str(submitit.JobEnvironment().paths.stderr.resolve())
    except RuntimeError:
        return ""


def _exit_with_problem(tasks: Sequence[Task], launch_dir: Path) -> None:
    sys.exit(work(tasks, launch_dir, runs_per_gpu=None).problem or 0)
