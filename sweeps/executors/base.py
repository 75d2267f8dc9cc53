"""Executors: their interface, their choice by name, the jobs of launches on a scheduler, and the end of a launch."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal

from rich.console import Console

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import read_request
from aimv2.base.errors import UsageError
from aimv2.config.arguments import checked
from aimv2.config.program import Program
from aimv2.sweeps.active_launches import ActiveLaunch, Queued, active_launches, end
from aimv2.sweeps.board import Board, print_failures
from aimv2.sweeps.executors import BUILT_IN
from aimv2.sweeps.plan import Plan, Work


class Executor(ABC):
    """A place where the workers of a launch run: a frozen dataclass, each field of which is a key of the command line
    (``executor.<field>``) with its default."""

    @property
    def device(self) -> Literal["cuda", "cpu"] | None:
        """The device that ``device=auto`` means to the workers; None is this machine's."""
        return None

    @property
    def speed_unknown(self) -> str:
        """The reason why a measurement on this machine cannot predict the workers' speed; empty if it can."""
        return "the speed of these workers is not known on this machine"

    @abstractmethod
    def check(self, runs: Sequence[Program]) -> None:
        """Refuse runs that these workers cannot do: a UsageError with the key to change."""

    @abstractmethod
    def num_workers(self, runs: Sequence[Program]) -> int:
        """Return the number of workers for these runs, perhaps more than there are runs; a UsageError without room."""

    def test(self, runs: Sequence[Program], runs_dir: Path) -> str:
        """Refuse a launch of these runs that would be refused later, and start nothing. Return a sentence if this
        machine cannot test it, else an empty one."""
        return ""

    @abstractmethod
    def launch(self, plan: Plan, work: Work, reports_dir: Path | None, board: Board) -> bool:
        """Save the requests of the plan and have workers do this work, which has a task.

        Returns True if the work is over, so that the report can be written; False if workers continue after this
        process and write the report themselves, into ``reports_dir``, which is None for runs of no study. A
        KeyboardInterrupt if the launch was interrupted or cancelled, and the workers released their runs.
        """

    @staticmethod
    def queue(launch: ActiveLaunch) -> list[Queued] | None:
        """Return the jobs of a launch (``launch.jobs``) that a scheduler still has; None if it does not tell here."""
        return None

    @staticmethod
    def withdraw(launch: ActiveLaunch) -> str:
        """Withdraw a cancelled launch's waiting workers, and its finalizer job if no worker runs; return the jobs that
        stay, with the reason."""
        return ""


def chosen_executor(words: Sequence[str]) -> str:
    """Return the name of the executor that the words of a command line choose."""
    return {key: value for key, _, value in (word.partition("=") for word in words)}.get("executor", "local")


def executor_values(name: str) -> dict[str, dict[str, Any]]:
    """Return the choices of ``executor=``: that of this name with its keys and defaults, the others empty."""
    default: Any = executor_class(name)() if name in BUILT_IN else None  # a dataclass
    return {executor: asdict(default) if executor == name else {} for executor in BUILT_IN}


def executor_of(name: str, values: Mapping[str, Any]) -> Executor:
    """Return the executor of this name with these values; a UsageError if one is not allowed."""
    executor: Executor = checked("executor", executor_class(name), dict(values))
    return executor


def executor_class(name: str) -> type[Executor]:
    """Import an executor and return its class; a UsageError if it cannot be loaded."""
    try:
        kind: type[Executor] = resolve_name(BUILT_IN[name])
    except ImportError as error:
        raise UsageError(f"executor={name} cannot be loaded: {error}") from error
    return kind


def queue_of(launch: ActiveLaunch) -> list[Queued] | None:
    """Return a launch's jobs in the queue; None if its scheduler does not answer here, or if it has no jobs."""
    if launch.jobs is None or launch.jobs.executor not in BUILT_IN:  # plug-ins could have executors in older versions
        return None
    with contextlib.suppress(OSError, UsageError):
        return executor_class(launch.jobs.executor).queue(launch)
    return None


def withdraw(launch: ActiveLaunch) -> str:
    """Withdraw the waiting jobs of a cancelled launch; return those that stay, with the reason."""
    if launch.jobs is None:
        return ""
    if launch.jobs.executor not in BUILT_IN:
        return f"{launch.jobs.described}: executor={launch.jobs.executor} is unknown here"
    try:
        return executor_class(launch.jobs.executor).withdraw(launch)
    except (OSError, UsageError) as error:
        return f"{launch.jobs.described}: {error}"


def end_abandoned(runs_dir: Path) -> None:
    """End the launches that submitted all of their jobs and have none left, as after a ``scancel`` of all."""
    for launch in active_launches(runs_dir):
        if launch.jobs is not None and launch.jobs.finalizer and queue_of(launch) == []:
            end(launch.folder)


def finish(plan: Plan, work: Work, reports_dir: Path | None, console: Console) -> bool:
    """Finish a launch whose tasks are over: print why runs have no result, and write the reports on its studies, other
    launches of these included. Return True if each of its runs is done and it lacks nothing else.

    ``reports_dir`` is None for runs of no study, which have no report.
    """
    confirmed = work.finish(plan.runs_dir, console)
    plan = replace(plan, cells=[*plan.cells, *confirmed])
    executed = {*work.runs, *(cell.name for cell in confirmed)}
    has_failed = print_failures(console, plan, executed)
    for problem in plan.broken_results():
        console.print(problem, style="red", soft_wrap=True, markup=False)
        has_failed = True
    if reports_dir is None:
        return not has_failed
    if waiting := set(plan.remaining()) - executed:
        console.print(f"runs that are still missing: {len(waiting)}; launch the sweep again to execute them")
    from aimv2.analysis.report import build  # here, because a launch may write none

    for request in plan.requests:
        whole = read_request(plan.runs_dir, request.folder, STUDIES, like=request.cells)
        console.print(f"report: {build(whole, plan.runs_dir, reports_dir)}", soft_wrap=True)
    return work.is_complete(plan.runs_dir) and not has_failed
