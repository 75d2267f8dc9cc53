"""Several worker processes on one GPU, for an executor that starts one job per GPU."""

import contextlib
import multiprocessing
import sys
from multiprocessing.connection import wait
from typing import Any

from aimv2.runs.interrupt import Interrupts
from sweeps.worker import WorkerReport, work

POLL_SECONDS = 0.5  # between two checks for a signal


def work_in_processes(num_processes: int, *args: Any, **kwargs: Any) -> WorkerReport:
    """Call ``sweeps.worker.work`` in several processes with the same arguments, and wait for all of them.

    A signal is passed on, so that each process saves a checkpoint and releases its run.

    Returns:
        The signal, and a problem if a process died. The runs' folders record the rest.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    processes = [context.Process(target=_work, args=(args, kwargs)) for _ in range(num_processes)]
    with Interrupts().listening() as interrupts, contextlib.suppress(KeyboardInterrupt), interrupts.deferred():
        try:
            for process in processes:
                process.start()
            while running := [process for process in processes if process.is_alive()]:
                if interrupts.was_signalled:
                    for process in running:
                        process.terminate()  # repeated, since a process that is just starting can miss it
                wait([process.sentinel for process in running], POLL_SECONDS)
        finally:
            for process in processes:  # after a second Ctrl-C
                if process.is_alive():
                    process.kill()
    dead = sum(process.exitcode != 0 for process in processes)
    has_died = dead and not interrupts.was_signalled
    problem = f"{dead} of {num_processes} workers on this GPU ended early; this job's log has the reason"
    return WorkerReport(signal=interrupts.signal, problem=problem if has_died else "")


def _work(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    report = work(*args, **kwargs)
    if report.problem:
        sys.exit(report.problem)
