"""``python -m aimv2 train executor=NAME``: one run, and its untrained encoder, by the workers of an executor."""

from collections.abc import Sequence

from rich.console import Console

from aimv2.ablations.expand import Cell
from aimv2.base.interrupt import Interrupts
from aimv2.config.arguments import as_typed, defaults_of
from aimv2.request.compose import compose, run_config, with_file
from aimv2.request.resolve import resolve
from aimv2.run.command import folder_of_runs, print_results, split_limits, with_untrained
from aimv2.run.options import TrainOptions
from aimv2.run.price import check_cpu, check_limits, price
from aimv2.run.times import RecordedClock
from aimv2.runs.record import RunFolder
from aimv2.sweeps.executors.registry import chosen_executor, end_abandoned, executor_of, executor_values, queue_of
from aimv2.sweeps.finish import finish
from aimv2.sweeps.plan import Plan
from aimv2.sweeps.status.board import Board

TITLE = "train"  # of such launches, in the place of a study

console = Console(highlight=False)


def submit_command(overrides: Sequence[str]) -> int:
    """Have workers do the runs that ``python -m aimv2 train`` would do here and that are not done.

    Returns:
        0 if they are done or submitted, 1 if one failed.

    Raises:
        UsageError: the executor refuses, or a value is not allowed; nothing is left waiting.
    """
    words, limits = split_limits(with_file(overrides))
    name = chosen_executor(words)
    values = compose(
        words,
        defaults={"executor": name},
        values=defaults_of(TrainOptions),
        groups={"executor": executor_values(name)},
    )
    executor = executor_of(name, values["executor"])
    config = resolve(run_config(values), available=executor.device)
    runs_dir = folder_of_runs(values, config)
    cells = [Cell(arm=name, seed=run.seed, config=run) for name, run in with_untrained(config).items()]
    executor.check([cell.config for cell in cells])
    plan = Plan(TITLE, cells, runs_dir)
    work = plan.work(plan.remaining())
    if work.tasks:
        is_here = not executor.speed_unknown
        cost = price(work.configs, RecordedClock() if limits and is_here else lambda run: None)
        check_limits(limits, cost, min(executor.num_workers(work.configs), len(work.tasks)))
        if is_here and config.device == "cpu":
            check_cpu(cost.flops, limits)
        end_abandoned(runs_dir)
        with Interrupts().listening():
            is_over = executor.launch(plan, work, None, Board(plan, console, queue_of))
        if not is_over:
            where = "" if str(runs_dir) == "runs" else f" runs_dir={runs_dir}"
            console.print(
                f"`{as_typed('manage')} logs {cells[0].name}{where}` shows the progress, `cancel {TITLE}{where}`"
                " ends your single runs, and the same command prints the result once they are done",
                soft_wrap=True,
            )
            return 0
        if not finish(plan, work, None, console):
            return 1
    print_results({cell.arm: RunFolder(runs_dir, cell.name) for cell in cells})
    return 0
