"""Progress of a sweep, read from its run folders and, for a launch on SLURM, from the queue. Nothing is written."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ablations.request import Request
from aimv2.runs.record import entries
from sweeps.active_launches import Jobs, active_launches, num_waiting
from sweeps.executors.slurm_commands import Queued, queue_of
from sweeps.plan import Plan, code_note
from sweeps.status.runs import RunReader, RunState, RunStatus


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """Progress of a sweep.

    Attributes:
        question: of its study.
        num_launches: number of its active launches.
        num_waiting: number of their workers that wait for a free core or GPU.
        queue: state of the jobs of each launch on SLURM, in words.
        runs: in the order of the sweep's cells.
        code: which code done runs are of, if it differs.
        report: path of its report, if there is one and no launch is active.
    """

    name: str
    question: str = ""
    num_launches: int
    num_waiting: int = 0
    queue: list[str]
    runs: list[RunStatus]
    code: str = ""
    report: str = ""

    def count(self, state: RunState) -> int:
        return sum(run.state == state for run in self.runs)

    @property
    def samples(self) -> int:
        return sum(run.samples for run in self.runs)

    @property
    def budget(self) -> int:
        return sum(run.budget for run in self.runs)

    @property
    def seconds_left(self) -> float | None:
        """Training time left if the active runs keep their speed and others follow them; None if no run is active."""
        speed = sum(run.images_per_second or 0.0 for run in self.runs if run.state == "running")
        return (self.budget - self.samples) / speed if speed else None


def sweep_status(request: Request, runs_dir: Path, reader: RunReader | None = None) -> SweepStatus:
    """Return the progress of a request's runs, with the question and the report of its study; as ``plan_status``."""
    status = plan_status(Plan(request.folder, request.cells, runs_dir), reader)
    report = "" if status.num_launches else _report(request)
    return replace(status, question=request.study.question, report=report)


def plan_status(plan: Plan, reader: RunReader | None = None) -> SweepStatus:
    """Return the progress of a plan's runs. A run that several cells share is listed with one of them.

    Args:
        reader: remembers what it has read of this sweep before.
    """
    launches = [active for active in active_launches(plan.runs_dir) if active.study == plan.title]
    queues = {one.folder: queue_of(one.folder, one.jobs.cluster) for one in launches if one.jobs is not None}
    active = [one for one in launches if queues.get(one.folder) != []]
    waiting = sum(map(num_waiting, active))
    reason = _why_waiting(bool(active), waiting, plan.runs_dir / "workers", plan.title)
    found = entries(plan.runs_dir)
    return SweepStatus(
        name=plan.title,
        num_launches=len(active),
        num_waiting=waiting,
        queue=[in_queue(one.jobs, queues[one.folder]) for one in launches if one.jobs is not None],
        runs=(reader or RunReader()).read(plan, found, reason),
        code=code_note(found, plan.runs),
    )


def _report(request: Request) -> str:
    folders = [word.partition("=")[2] for word in request.arguments if word.startswith("reports_dir=")]
    path = Path(folders[-1] if folders else "reports") / request.folder / "report.md"
    return str(path) if path.exists() else ""


def in_queue(jobs: Jobs, queued: Sequence[Queued] | None) -> str:
    """Count a launch's jobs by state and reason, in words.

    Args:
        queued: its jobs in the queue (``sweeps.executors.slurm_commands.queue_of``).
    """
    workers = jobs.described
    if queued is None:
        return f"{workers}: UNKNOWN, squeue does not answer on this host"
    if not queued:
        return f"{workers}: no job of it is in SLURM's queue any more; launch the sweep again"
    counts = Counter(
        f"{job.state} ({job.reason})" if job.reason not in ("None", "") else job.state
        for job in queued
        if job.array in jobs.arrays
    )
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{workers}: {states or 'ended, the finalizer job writes the report'}"


def _why_waiting(is_launched: bool, waiting: int, logs: Path, name: str) -> str:
    if not is_launched:
        last = max(logs.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime, default=None)
        where = "" if last is None else f"; the logs of its last workers on SLURM are in {last}"
        return f"no active launch of this sweep{where}"
    return f"no free worker yet; {waiting_workers(waiting)}" if waiting else "no free worker yet"


def waiting_workers(waiting: int) -> str:
    """Return the number of workers that wait for resources, in words."""
    return f"workers waiting for a free core or GPU: {waiting}"
