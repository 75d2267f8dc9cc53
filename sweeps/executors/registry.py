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
from aimv2.sweeps.executors.base import Executor
from aimv2.sweeps.executors.names import BUILT_IN


def _check(name: str, kind: type[Executor]) -> None:
    if not (isinstance(kind, type) and issubclass(kind, Executor) and dataclasses.is_dataclass(kind)):
        raise UsageError(f"{short(kind)} is not a dataclass that inherits from Executor")
    if kind.starting is Executor.starting and kind.launch is Executor.launch:
        raise UsageError(f"{kind.__name__} has neither starting() nor launch()")
    if missing := [field.name for field in dataclasses.fields(kind) if not _has_default(field)]:
        raise UsageError(f"{kind.__name__} has fields without a default: {', '.join(missing)}")


def _has_default(field: "dataclasses.Field[Any]") -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


EXECUTORS: Registry[type[Executor]] = Registry(
    "executor",
    BUILT_IN,
    _check,
)


def executor(name: str) -> Callable[[type[Executor]], type[Executor]]:
    """Add the class below as an executor, ``executor=name``; its fields are keys.

    Raises:
        UsageError: the name is taken, or the class is no executor.
    """
    return lambda kind: EXECUTORS.add(name, kind)


def chosen_executor(words: Sequence[str]) -> str:
    """Return the name of the executor that the words of a command line choose."""
    return {key: value for key, _, value in (word.partition("=") for word in words)}.get("executor", "local")


def executor_values(name: str) -> dict[str, dict[str, Any]]:
    """Return the choices of ``executor=``: that of this name with its keys and their defaults, the others empty.

    Raises:
        UsageError: it cannot be loaded.
    """
    values = {one: dict[str, Any]() for one in EXECUTORS}
    if name in values:
        default: Any = executor_class(name)()  # a dataclass
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
    try:
        return EXECUTORS.get_known(name)
    except ImportError as error:
        hint = "; run: pip install 'aimv2-ablations[ray]'" if name == "ray" else ""
        raise UsageError(f"executor={name} cannot be loaded: {error}{hint}") from error


def _class_of(launch: ActiveLaunch) -> type[Executor] | None:
    """Return the executor that submitted a launch's jobs, which may be of a plug-in in its snapshot; None if it has no
    jobs."""
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
    return [one.folder for one in active_launches(runs_dir) if _is_abandoned(one)]


def _is_abandoned(launch: ActiveLaunch) -> bool:
    with contextlib.suppress(Exception):  # as in queue_of
        kind = _class_of(launch)
        return kind is not None and kind.abandoned(launch)
    return False


def end_abandoned(runs_dir: Path) -> None:
    for folder in abandoned(runs_dir):
        end(folder)
