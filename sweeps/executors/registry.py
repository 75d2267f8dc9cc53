"""Executors by name, ours and those of other packages, and the launches whose workers are jobs of a scheduler."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from aimv2.base.errors import UsageError, unknown
from aimv2.config.arguments import checked
from aimv2.sweeps.active_launches import ActiveLaunch, Queued, active_launches, end
from aimv2.sweeps.executors.base import Executor

GROUP = "aimv2.executors"  # of entry points; ours need none, so that a snapshot of the code finds them
BUILT_IN = {
    "debug": EntryPoint("debug", "aimv2.sweeps.executors.local:DebugExecutor", GROUP),
    "local": EntryPoint("local", "aimv2.sweeps.executors.local:LocalExecutor", GROUP),
    "slurm": EntryPoint("slurm", "aimv2.sweeps.executors.slurm:SlurmExecutor", GROUP),
    "ray": EntryPoint("ray", "aimv2.sweeps.executors.ray:RayExecutor", GROUP),
}


def executor_names() -> list[str]:
    """Return the names that ``executor=`` takes; nothing is imported."""
    return [*BUILT_IN, *sorted({one.name for one in entry_points(group=GROUP)} - set(BUILT_IN))]


def chosen_executor(words: Sequence[str]) -> str:
    """Return the name of the executor that the words of a command line choose."""
    return {key: value for key, _, value in (word.partition("=") for word in words)}.get("executor", "local")


def executor_values(name: str) -> dict[str, dict[str, Any]]:
    """Return the choices of ``executor=``: that of this name with its keys and their defaults, the others empty.

    Raises:
        UsageError: it cannot be loaded.
    """
    values = {one: dict[str, Any]() for one in executor_names()}
    if name in values:
        try:
            default: Any = executor_class(name)()  # a dataclass, as executor_class has checked
        except TypeError as error:
            raise UsageError(f"executor={name} has a field without a default: {error}") from error
        values[name] = dataclasses.asdict(default)
    return values


def executor_of(name: str, values: Mapping[str, Any]) -> Executor:
    """Return the executor of this name with these values.

    Raises:
        UsageError: there is none, it cannot be loaded, or a value is not allowed.
    """
    executor: Executor = checked("executor", executor_class(name), dict(values))
    return executor


def executor_class(name: str) -> type[Executor]:
    """Import an executor and return its class.

    Raises:
        UsageError: there is none of this name, or it cannot be loaded.
    """
    entry = BUILT_IN.get(name) or next(iter(entry_points(group=GROUP, name=name)), None)
    if entry is None:
        raise unknown("executor", name, executor_names())
    try:
        loaded = entry.load()
        if not (isinstance(loaded, type) and issubclass(loaded, Executor) and dataclasses.is_dataclass(loaded)):
            raise TypeError("it is no dataclass that inherits from aimv2.sweeps.executors.base.Executor")
        if loaded.starting is Executor.starting and loaded.launch is Executor.launch:
            raise TypeError("it has neither starting() nor launch()")
    except Exception as error:  # of another package's code
        package = f" of {entry.dist.name}" if entry.dist else ""
        is_missing = name == "ray" and isinstance(error, ImportError)
        hint = "; run: pip install 'aimv2-ablations[ray]'" if is_missing else ""
        raise UsageError(f"executor={name} ({entry.value}{package}) cannot be loaded: {error}{hint}") from error
    return loaded


def queue_of(launch: ActiveLaunch) -> list[Queued] | None:
    """Return a launch's jobs in the queue; None if its scheduler does not answer here, or if it has no jobs."""
    with contextlib.suppress(Exception):  # of another package's code or its scheduler, or it is not installed here
        return None if launch.jobs is None else executor_class(launch.jobs.executor).queue(launch)
    return None


def withdraw(launch: ActiveLaunch) -> str:
    """Withdraw the waiting jobs of a cancelled launch; return those that stay, with the reason."""
    if launch.jobs is None:
        return ""
    try:
        return executor_class(launch.jobs.executor).withdraw(launch)
    except Exception as error:  # as in queue_of
        return f"{launch.jobs.described}: {error}"


def abandoned(runs_dir: Path) -> list[Path]:
    """Return the folders of launches that nothing will end, as after a ``scancel`` of all jobs."""
    return [one.folder for one in active_launches(runs_dir) if _is_abandoned(one)]


def _is_abandoned(launch: ActiveLaunch) -> bool:
    with contextlib.suppress(Exception):  # as in queue_of
        return launch.jobs is not None and executor_class(launch.jobs.executor).abandoned(launch)
    return False


def end_abandoned(runs_dir: Path) -> None:
    for folder in abandoned(runs_dir):
        end(folder)
