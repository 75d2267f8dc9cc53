"""Probes of a launch: short runs by the workers of its executor, so that the plan has the price of their machines."""

import time
from collections.abc import Sequence

from rich.console import Console

from aimv2.ablations.expand import Cell
from aimv2.base.errors import UsageError, count
from aimv2.base.files import share, writable_folder
from aimv2.config.program import Program
from aimv2.run.pricing.price import Clock
from aimv2.run.pricing.probe import STEPS, ProbeClock, check_probes
from aimv2.sweeps.active_launches import active_launches
from aimv2.sweeps.executors.base import Executor
from aimv2.sweeps.executors.registry import end_abandoned, queue_of
from aimv2.sweeps.plan import Plan
from aimv2.sweeps.status.board import Board, print_failures

TITLE = "probe"  # of such launches, in the place of a study
POLL_SECONDS = 2.0


def probe(clock: Clock, runs: Sequence[Program], executor: Executor, console: Console) -> None:
    """Have workers do a probe of each shape of these runs that was not measured where they run, and wait for them.

    Probes are runs of their own, each done once; after an interruption the same command waits for the rest.

    Args:
        clock: that of the launch, which reads what they measure.

    Raises:
        UsageError: the runs have no probe, the executor refuses, or no probe could be done.
        KeyboardInterrupt: the launch was interrupted.
    """
    assert isinstance(clock, ProbeClock), "sweeps.parse chooses it"
    check_probes(runs)
    probes = clock.missing(runs)
    if not probes:
        return
    executor = executor.for_probes()
    executor.check(probes)
    share(clock.folder)
    writable_folder(str(clock.folder), "runs_dir", needs_links=True)
    cells = [Cell(arm=f"shape_{number}", seed=one.seed, config=one) for number, one in enumerate(probes, 1)]
    plan = Plan(TITLE, cells, clock.folder)
    end_abandoned(plan.runs_dir)
    work = plan.work(plan.remaining(repair=True))
    if work.tasks:
        what = f"{count(len(work.tasks), 'probe')} of {STEPS} steps and a part of the evaluation each"
        console.print(f"{what}, in {clock.folder}", soft_wrap=True, markup=False)
        if not executor.launch(plan, work, None, Board(plan, console, queue_of)):
            console.print("waiting for them; Ctrl-C stops this, and the same command waits again", soft_wrap=True)
            task_list = work.task_list(plan.runs_dir)
            while not task_list.open_tasks().is_over and active_launches(plan.runs_dir):
                time.sleep(POLL_SECONDS)
        print_failures(console, plan, set(work.runs))
    clock.read()
    if not clock.hardware:
        raise UsageError(f"no probe could be done; their logs are in {clock.folder}")
    console.print(f"measured on {'; '.join(clock.hardware)}", soft_wrap=True, markup=False)
