"""The workers of a launch that waits for them: started, watched and replaced."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aimv2.base.errors import UsageError
from aimv2.base.files import writable_folder
from aimv2.base.processes import imports_from
from aimv2.runs.lease import Watch, is_released
from aimv2.sweeps.active_launches import LOGS, WORKERS, cancelled, runs_dir_of, skipped
from aimv2.sweeps.freeze import freeze, worker_environment
from aimv2.sweeps.status.board import Board
from aimv2.sweeps.tasks import Work
from aimv2.sweeps.worker import WorkerReport, read_report

POLL_SECONDS = 1.0
STOP_SECONDS = 30  # that interrupted workers have to save checkpoints
MAX_IDLE = 3  # workers in a row that ended though runs were free and not one was tried

Poll = Callable[[], int | None]  # returns None while a worker runs, as Popen.poll does
Start = Callable[[str], Poll]  # starts a worker, given its name


@dataclass(frozen=True)
class Launched:
    """A launch whose workers can be started."""

    work: Work
    folder: Path  # its own, in the runs folder
    num_workers: int  # that run at a time; there may be more, one after the other
    board: Board  # shows its progress, and has the console

    @property
    def code(self) -> Path:
        """The snapshot of the code from which workers import our packages."""
        return freeze(runs_dir_of(self.folder))

    def environment(self, cores: int) -> dict[str, str]:
        """Return the environment variables that a worker needs, whose ranks have so many cores each."""
        return worker_environment(self.work.configs[0], cores) | imports_from(self.code)

    def log_of(self, name: str) -> Path:
        """Return the path of a worker's log, which outlives the launch."""
        return runs_dir_of(self.folder) / LOGS / self.folder.name / f"{name}.log"

    def about(self, name: str, **values: Any) -> dict[str, Any]:
        """Return what a worker has to know, for ``sweeps.worker``: paths that any host sees, and more of its values."""
        paths = {"launch_dir": str(self.folder.resolve()), "log": str(self.log_of(name).resolve())}
        return {"name": name, **paths, **values}


@dataclass
class StartedWorker:
    """A worker of a launch: its state, and how many attempts there were when it was started."""

    name: str
    num_attempts: int
    poll: Poll


def keep_workers(launched: Launched, start: Start) -> list[WorkerReport]:
    """Keep workers as long as runs are free, until all tasks are over; return their reports.

    Raises:
        KeyboardInterrupt: the launch was cancelled, and its workers have ended; or it was interrupted.
        UsageError: the runs folder cannot be written, or workers end before they try a run, MAX_IDLE in a row.
    """
    launch_dir, num_workers, board = launched.folder, launched.num_workers, launched.board
    runs_dir, reports, num_idle = runs_dir_of(launch_dir), list[WorkerReport](), 0
    task_list, left_out, workers = launched.work.task_list(runs_dir), dict[str, str](), list[StartedWorker]()
    try:
        while True:
            for run, reason in skipped(launch_dir).items() - left_out.items():
                left_out[run] = reason
                board.console.print(f"{run} is skipped: {reason}", style="red", soft_wrap=True, markup=False)
            now = task_list.open_tasks().without(left_out)
            ended = [worker for worker in workers if worker.poll() is not None]
            is_cancelled = cancelled(launch_dir) is not None
            for worker in ended:
                workers.remove(worker)
                report = read_report(launch_dir, worker.name)
                if report is None:
                    report = WorkerReport()
                    text = f"a worker ended early; its log is {launched.log_of(worker.name)}"
                    board.console.print(text, style="red", soft_wrap=True)
                reports.append(report)
                if report.problem:  # of its host, unless the runs folder cannot be written from here either
                    writable_folder(str(runs_dir), "runs_dir", needs_links=True)
                    text = f"a worker cannot work: {report.problem}"
                    board.console.print(text, style="red", soft_wrap=True, markup=False)
                # A worker that ran out of time without a try waited for a slot.
                is_excused = is_cancelled or report.was_out_of_time
                is_idle = now.free and (now.num_attempts == worker.num_attempts or report.problem) and not is_excused
                num_idle = num_idle + 1 if is_idle else 0
                if num_idle == MAX_IDLE:
                    why = report.problem or "workers end before they try a run"
                    raise UsageError(f"{why}; their logs are in {runs_dir / LOGS}")
            # All at first, and later those that ended: a worker that is just starting may take what is free.
            folders = [launch_dir / WORKERS / worker.name for worker in workers]
            num_starting = sum(not folder.exists() for folder in folders)  # or waits in a queue, perhaps for ever
            num_stopped = sum(_is_stopped(folder, task_list.watch) for folder in folders)
            if (now.is_over or is_cancelled) and num_starting + num_stopped == len(workers):
                break
            most = 0 if num_starting or is_cancelled else max(len(ended), 1) if reports else num_workers
            for _ in range(min(num_workers - len(workers) + num_stopped, len(now.free), most)):
                name = uuid.uuid4().hex[:12]
                workers.append(StartedWorker(name, now.num_attempts, start(name)))
            board.update()
            if any(worker.poll() is None for worker in workers) or now.held or now.unsure:
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        if any(worker.poll() is None for worker in workers):
            board.console.print(
                "interrupted: the workers save checkpoints and release their runs after this step; press Ctrl-C again"
                " to return without waiting for them",
                style="yellow",
                soft_wrap=True,
            )
        raise
    if cancelled(launch_dir) is not None:
        raise KeyboardInterrupt
    return reports


def _is_stopped(worker: Path, watch: Watch) -> bool:
    """True if a worker with this folder has no heartbeat any more, though it has not ended."""
    return watch.sees(worker) == "dead" and worker.exists() and not is_released(worker)
