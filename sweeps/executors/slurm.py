"""``executor=slurm``: workers as elements of a job array."""

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic.dataclasses import dataclass

from ablations.request import write_request
from aimv2.base.errors import UsageError
from aimv2.config.data_config import CHECKED
from aimv2.config.run_config import RunConfig
from sweeps.active_launches import LOGS, ActiveLaunch, Queued, end, new_launch
from sweeps.executors import slurm_commands
from sweeps.executors.base import Executor, check_gpu_sharing, cores_per_run
from sweeps.executors.slurm_commands import check_accepted
from sweeps.executors.slurm_jobs import FinalizerJob, submit_workers
from sweeps.executors.slurm_resources import SlurmResources
from sweeps.freeze import FOLDER as CODE
from sweeps.plan import Plan
from sweeps.status.board import Board
from sweeps.tasks import Work, write_work


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SlurmExecutor(SlurmResources, Executor):
    """Workers as elements of a job array. A launch on a login node submits them and returns."""

    def check(self, runs: Sequence[RunConfig]) -> None:
        """Refuse ranks that the nodes cannot hold, and runs that cannot share a GPU."""
        ranks = max(run.ranks for run in runs)  # untrained encoders have one
        if ranks % self.nodes:
            raise UsageError(f"ranks={ranks} cannot be spread evenly over executor.nodes={self.nodes}")
        if ranks > 1 and self.workers is not None:
            raise UsageError(f"executor.workers={self.workers} and ranks={ranks}: such runs need one job each")
        check_gpu_sharing(self.runs_per_gpu, runs)
        if self.runs_per_gpu == 1:
            return
        each = cores_per_run(runs)
        needed = each * (2 if self.runs_per_gpu == "auto" else self.runs_per_gpu)
        if (self.cpus_per_task or (0 if self.runs_per_gpu == "auto" else needed)) < needed:
            raise UsageError(
                f"executor.runs_per_gpu={self.runs_per_gpu} needs executor.cpus_per_task={needed} or more: {each} per"
                " run, for its threads and loader processes"
            )

    def num_workers(self, runs: Sequence[RunConfig]) -> int:
        return self.num_elements(runs) * self.max_runs(runs)

    def test(self, runs: Sequence[RunConfig], runs_dir: Path) -> str:
        if shutil.which("sbatch") is None:
            return "whether SLURM accepts this was not tested: there is no sbatch on this machine"
        self._test_arrays(runs, runs_dir)
        return ""

    def launch(self, plan: Plan, work: Work, reports_dir: Path | None, board: Board) -> bool:
        """Submit workers for this work and the finalizer job, and return at once.

        A run that another launch has in the queue too is done by the worker that comes first.

        Raises:
            UsageError: SLURM refuses; nothing stays in the queue.
        """
        self._test_arrays(work.configs, plan.runs_dir)
        plan.prepare_data()
        launch_dir = new_launch(plan.runs_dir, plan.title, work.runs).resolve()
        try:
            write_work(launch_dir, work)
            absolute = replace(plan, runs_dir=plan.runs_dir.resolve())
            reports_dir = None if reports_dir is None else reports_dir.resolve()
            jobs = submit_workers(FinalizerJob(launch_dir, absolute, self, reports_dir), work.tasks)
        except BaseException:
            end(launch_dir)
            with contextlib.suppress(OSError):
                (plan.runs_dir / LOGS / launch_dir.name).rmdir()  # unless something was submitted
            raise
        last = "submits lost runs again" if reports_dir is None else "submits lost runs again and writes the report"
        board.console.print(
            f"submitted: {jobs.described}, then finalizer job {jobs.finalizer}, which {last}", soft_wrap=True
        )
        for request in plan.requests:
            write_request(plan.runs_dir, request)
        return False

    def _test_arrays(self, runs: Sequence[RunConfig], runs_dir: Path) -> None:
        for run in {run.ranks: run for run in runs}.values():
            check_accepted(self.template(run, folder=runs_dir / LOGS, name="test-only", code=runs_dir / CODE))

    @staticmethod
    def queue(launch: ActiveLaunch) -> list[Queued] | None:
        return None if launch.jobs is None else slurm_commands.queue_of(launch.folder, launch.jobs.cluster)

    @staticmethod
    def withdraw(launch: ActiveLaunch) -> str:
        return slurm_commands.withdraw(launch)
