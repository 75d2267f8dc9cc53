"""``python -m aimv2 train executor=slurm``: submit one run, and its untrained encoder, to a SLURM cluster."""

from collections.abc import Sequence

from rich.console import Console

from ablations.expand import Cell
from aimv2.config.options import defaults_of
from aimv2.request.compose import compose, run_config
from aimv2.request.resolve import resolve
from aimv2.run.command import TrainOptions, folder_of_runs, print_results, split_limits, with_untrained
from aimv2.run.pricing.price import check_limits, price
from aimv2.runs.record import RunFolder
from sweeps.executors.registry import default_values, end_abandoned, executor_of
from sweeps.executors.slurm import SlurmExecutor
from sweeps.plan import Plan

TITLE = "train"  # of such launches, in the place of a study

console = Console(highlight=False)


def submit_command(overrides: Sequence[str]) -> int:
    """Submit the runs that ``python -m aimv2 train`` would do here and that are not done, and return 0.

    Raises:
        UsageError: SLURM refuses, or a value is not allowed; nothing stays in the queue.
    """
    words, limits = split_limits(overrides)
    values = compose(
        words,
        defaults={"executor": "slurm"},
        values=defaults_of(TrainOptions),
        groups={"executor": {"slurm": default_values()["slurm"]}},
    )
    executor = executor_of(values["executor"])
    assert isinstance(executor, SlurmExecutor), "no other one is in the group"
    config = resolve(run_config(values), available=executor.device)
    runs_dir = folder_of_runs(values, config)
    cells = [Cell(arm=name, seed=run.seed, config=run) for name, run in with_untrained(config).items()]
    executor.check([cell.config for cell in cells])
    plan = Plan(TITLE, cells, runs_dir)
    work = plan.work(plan.remaining())
    if not work.tasks:
        print_results({cell.arm: RunFolder(runs_dir, cell.name) for cell in cells})
        return 0
    # Their speed is that of the cluster, so a limit on time is refused.
    check_limits(limits, price(work.configs, lambda run: None), num_workers=1)
    end_abandoned(runs_dir)
    jobs = executor.submit(plan, work, reports_dir=None)
    where = "" if str(runs_dir) == "runs" else f" runs_dir={runs_dir}"
    console.print(
        f"submitted: {jobs.described}, then finalizer job {jobs.finalizer}, which submits lost runs again; `python"
        f" sweeps/manage.py logs {cells[0].name}{where}` shows the progress, `cancel {TITLE}{where}` ends your single"
        " runs, and the same command prints the result once they are done",
        soft_wrap=True,
    )
    return 0
