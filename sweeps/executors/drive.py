"""Do a plan's runs with local workers and watch until they are over, whoever does them."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from aimv2.errors import UsageError
from aimv2.runs.lease import file_system_time
from sweeps.active_launches import at_work
from sweeps.executors.local import LocalConfig, start_workers, stop_workers
from sweeps.machine.room import num_cores
from sweeps.plan import Plan
from sweeps.status.board import Board, duration
from sweeps.worker import Task, WorkerReport

POLL_SECONDS = 1.0
MAX_IDLE = 3  # rounds of workers that tried nothing


def prepare_data(plan: Plan) -> None:
    """Draw pictures and train tokenizers before workers start, so that no run waits for that or fails on it."""
    from aimv2.data.pairs import prepare

    for data, model in {(cell.config.data, cell.config.model) for cell in plan.cells}:
        prepare(data, model, show_progress=True)


def do_runs(plan: Plan, executor: LocalConfig, console: Console, names: Sequence[str]) -> None:
    """Do these runs of the plan. Return when every run is done, has failed once more, or was twice failed by its worker
    or node.

    Raises:
        KeyboardInterrupt: after the workers have handed back what they were doing.
        UsageError: no worker can work here, or the code that they would run was changed; the message says why.
    """
    tasks = [Task(name, plan.cell_of[name].config, plan.runs[name].num_tries) for name in names]
    started = time.perf_counter()
    reports: list[WorkerReport] = []
    num_idle = 0
    with (
        at_work(plan.runs_dir, plan.title, {task.name: task.tries for task in tasks}) as launch,
        Board(plan, console, is_live=executor.cluster != "debug") as board,
    ):
        while still_open := [task for task in tasks if task.is_open(plan.runs_dir)]:
            if all(plan.runs[task.name].state(file_system_time) == "running" for task in still_open):
                board.update()  # another launch has them all
                time.sleep(POLL_SECONDS)
                continue
            before = plan.num_attempts()
            ended = _work(still_open, plan, executor, board, console, launch)
            reports += ended
            # Once may be chance: another launch held the runs and has just handed them back. And who is out of time
            # without a try has waited for a seat.
            is_idle = plan.num_attempts() == before and not any(report.was_out_of_time for report in ended)
            num_idle = num_idle + 1 if is_idle else 0
            if num_idle == MAX_IDLE:
                raise UsageError(f"workers end before they try a run; their logs are in {plan.runs_dir / 'workers'}")
    if any(report.done for report in reports):
        _print_summary(tasks, executor, reports, time.perf_counter() - started, console)


def _print_summary(
    tasks: list[Task], executor: LocalConfig, reports: list[WorkerReport], wall: float, console: Console
) -> None:
    """How long it took, how busy the cores were, and what share of the workers' time was work."""
    done = sum(len(report.done) for report in reports)
    workers = min(executor.num_workers([task.config for task in tasks]), len(tasks))
    cores = num_cores() if executor.share_gpu else min(num_cores(), tasks[0].config.threads * workers)
    busy = sum(report.cpu_seconds for report in reports) / (cores * wall)
    work = sum(report.working_seconds for report in reports) / sum(report.seconds for report in reports)
    console.print(
        f"{done} run{'s' * (done != 1)} done in {duration(wall)}; {work:.0%} of the workers' wall time was training or"
        f" evaluation; {cores} core{'s were' if cores > 1 else ' was'} busy {busy:.0%} of it (CPU seconds / cores /"
        " wall)",
        soft_wrap=True,
    )


def _work(
    tasks: list[Task], plan: Plan, executor: LocalConfig, board: Board, console: Console, launch: Path
) -> list[WorkerReport]:
    jobs: list[Any] = []
    is_local = executor.cluster == "local"
    asked_for = time.time()
    try:
        start_workers(executor, tasks, plan.runs_dir, lambda rows: board.update(), jobs, launch)
        while is_local and not all(job.done() for job in jobs):
            board.update()
            time.sleep(POLL_SECONDS)
        wall = time.time() - asked_for
        reports = [_report(job, console, wall, is_local=is_local) for job in jobs]
        board.update()
    except BaseException:
        if is_local and not stop_workers(jobs):
            console.print("some workers have not ended yet; they stop after the step they are in", style="yellow")
        raise
    # A local worker that somebody else has stopped is no matter: another goes on. One in this process is us.
    if any(report.was_cancelled or (report.signal is not None and not is_local) for report in reports):
        raise KeyboardInterrupt
    if problems := [report.problem for report in reports if report.problem]:
        raise UsageError(problems[0])
    return reports


def _report(job: Any, console: Console, wall: float, *, is_local: bool) -> WorkerReport:
    """What the worker says it did. If it died without a word, that is nothing, in all the time until the others ended:
    nobody took its place so long."""
    error = job.exception()
    if error is None:
        report: WorkerReport = job.result()
        return report
    if not is_local:
        raise error
    console.print(f"a worker ended early; its log is {job.paths.stderr}", style="red", soft_wrap=True)
    return WorkerReport(seconds=wall)
