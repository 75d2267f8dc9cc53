"""Executors by name, ours and those of other packages, and the launches whose workers are jobs of a scheduler."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aimv2.base.errors import UsageError, short
from aimv2.base.plugins import Registry, load_from_snapshots
from aimv2.config.arguments import checked
from aimv2.runs.provenance import snapshots
from aimv2.sweeps.active_launches import ActiveLaunch, Queued, active_launches, end, runs_dir_of
from aimv2.sweeps.executors import BUILT_IN
from aimv2.sweeps.executors.base import Executor


def _check(name: str, kind: type[Executor]) -> None:
    if not (isinstance(kind, type) and issubclass(kind, Executor) and dataclasses.is_dataclass(kind)):
        raise UsageError(f"{short(kind)} is not a dataclass that inherits from Executor")
    if kind.starting is Executor.starting and kind.launch is Executor.launch:
        raise UsageError(f"{kind.__name__} has neither starting() nor launch()")
    unset = dataclasses.MISSING
    if missing := [key.name for key in dataclasses.fields(kind) if key.default is key.default_factory is unset]:
        raise UsageError(f"{kind.__name__} has fields without a default: {', '.join(missing)}")


EXECUTORS: Registry[type[Executor]] = Registry("executor", BUILT_IN, _check)


def executor(name: str) -> Callable[[type[Executor]], type[Executor]]:
    """Add the class below as an executor, ``executor=name``; its fields are keys."""
    return lambda kind: EXECUTORS.add(name, kind)


def chosen_executor(words: Sequence[str]) -> str:
    """Return the name of the executor that the words of a command line choose."""
    return {key: value for key, _, value in (word.partition("=") for word in words)}.get("executor", "local")


def executor_values(name: str) -> dict[str, dict[str, Any]]:
    """Return the choices of ``executor=``: that of this name with its keys and defaults, the others empty."""
    values = {executor: dict[str, Any]() for executor in EXECUTORS}
    if name in values:
        default: Any = executor_class(name)()  # a dataclass
        values[name] = dataclasses.asdict(default)
    return values


def executor_of(name: str, values: Mapping[str, Any]) -> Executor:
    """Return the executor of this name with these values; a UsageError if one is not allowed."""
    executor: Executor = checked("executor", executor_class(name), dict(values))
    return executor


def executor_class(name: str) -> type[Executor]:
    """Import an executor and return its class; a UsageError if there is none of this name, or it cannot be loaded."""
    try:
        return EXECUTORS.get_known(name)
    except ImportError as error:
        raise UsageError(f"executor={name} cannot be loaded: {error}") from error


def _class_of(launch: ActiveLaunch) -> type[Executor] | None:
    """Return the executor that submitted a launch's jobs, perhaps of a plug-in in its snapshot; None without jobs."""
    if launch.jobs is None:
        return None
    load_from_snapshots(launch.plugins, snapshots(runs_dir_of(launch.folder)))
    return executor_class(launch.jobs.executor)


def queue_of(launch: ActiveLaunch) -> list[Queued] | None:
    """Return a launch's jobs in the queue; None if its scheduler does not answer here, or if it has no jobs."""
    with contextlib.suppress(Exception):  # of another package's code or its scheduler, or it is not installed here
        kind = _class_of(launch)
        return None if kind is None else kind.queue(launch)
    return None


def withdraw(launch: ActiveLaunch) -> str:
    """Withdraw the waiting jobs of a cancelled launch; return those that stay, with the reason."""
    if launch.jobs is None:
        return ""
    try:
        kind = _class_of(launch)
        return "" if kind is None else kind.withdraw(launch)
    except Exception as error:  # as in queue_of
        return f"{launch.jobs.described}: {error}"


def abandoned(runs_dir: Path) -> list[Path]:
    """Return the folders of launches that nothing will end, as after a ``scancel`` of all jobs."""
    folders = []
    for launch in active_launches(runs_dir):
        with contextlib.suppress(Exception):  # as in queue_of
            if (kind := _class_of(launch)) is not None and kind.abandoned(launch):
                folders.append(launch.folder)
    return folders


def end_abandoned(runs_dir: Path) -> None:
    for folder in abandoned(runs_dir):
        end(folder)
