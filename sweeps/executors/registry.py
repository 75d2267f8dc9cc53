"""The executors by their names, and the launches whose workers are jobs of a scheduler."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aimv2.base.errors import unknown
from aimv2.config.arguments import checked
from sweeps.active_launches import ActiveLaunch, Queued, active_launches, end
from sweeps.executors.base import Executor
from sweeps.executors.local import DebugExecutor, LocalExecutor
from sweeps.executors.slurm import SlurmExecutor

EXECUTORS: Mapping[str, type[Executor]] = {
    "debug": DebugExecutor,
    "local": LocalExecutor,
    "slurm": SlurmExecutor,
}


def default_values() -> dict[str, dict[str, Any]]:
    """Return the keys of each executor with their defaults, by its name."""
    return {name: dataclasses.asdict(executor()) for name, executor in EXECUTORS.items()}  # type: ignore[call-overload]


def executor_of(values: Mapping[str, Any]) -> Executor:
    """Return the executor with these values.

    Raises:
        UsageError: a value is not allowed.
    """
    if (name := values["cluster"]) not in EXECUTORS:
        raise unknown("executor.cluster", str(name), EXECUTORS)
    executor: Executor = checked("executor", EXECUTORS[name], dict(values))
    return executor


def queue_of(launch: ActiveLaunch) -> list[Queued] | None:
    """Return a launch's jobs in the queue; None if its scheduler does not answer here, or if it has no jobs."""
    return None if launch.jobs is None else EXECUTORS[launch.jobs.executor].queue_of(launch)


def withdraw(launch: ActiveLaunch) -> str:
    """Withdraw the waiting jobs of a cancelled launch; return those that stay, with the reason."""
    return "" if launch.jobs is None else EXECUTORS[launch.jobs.executor].withdraw(launch)


def abandoned(runs_dir: Path) -> list[Path]:
    """Return the folders of one's own launches that have no job in the queue any more, as after a scancel of all."""
    launches = active_launches(runs_dir)
    return [one.folder for one in launches if one.jobs and one.jobs.finalizer and queue_of(one) == []]


def end_abandoned(runs_dir: Path) -> None:
    for folder in abandoned(runs_dir):
        end(folder)
