"""``python -m aimv2 train``: one run, and its untrained encoder for comparison."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from aimv2.base.errors import UsageError
from aimv2.base.files import share, writable_folder
from aimv2.base.interrupt import Interrupts
from aimv2.config.arguments import HELP, print_error
from aimv2.config.data_config import CHECKED
from aimv2.config.options import defaults_of, options_of, usage
from aimv2.config.run_config import RunConfig
from aimv2.config.signature import signature, untrained
from aimv2.memory import setup_of
from aimv2.request.compose import RUN_VALUES, compose, run_config
from aimv2.runs.lease import GRACE_SECONDS, Watch
from aimv2.runs.provenance import code_of_lost_checkpoint
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import losses_of

SUMMARY = """Train and evaluate one run, and evaluate its untrained encoder for comparison. A run's name is a hash of
its config. If the run is done, its result is printed; if it was interrupted, it resumes from its last checkpoint.
budget.samples=0 evaluates the untrained encoder only. ranks=8 starts 8 processes, unless torchrun has. executor=slurm
submits the run to a SLURM cluster, with the keys of docs/cluster.md."""
WATCH_POLL_SECONDS = 1.0

console = Console()


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TrainOptions:
    """Where runs are, beside the values of the run."""

    runs_dir: str = Field(default="runs", description="the folder of the runs")


def train_command(overrides: Sequence[str]) -> int:
    """Train and evaluate the composed run and its untrained counterpart, unless done, and print both results.

    A run without samples has no counterpart.
    """
    if HELP & set(overrides):
        print(usage("python -m aimv2 train [key=value ...]", SUMMARY, TrainOptions, RUN_VALUES.rstrip()), end="")
        return 0
    values = compose(overrides, defaults={}, values=defaults_of(TrainOptions))
    config = run_config(values)
    runs_dir = folder_of_runs(values, config)

    from aimv2.data.prepare import render
    from aimv2.request.resolve import resolve
    from aimv2.run.execute import follow, prepared
    from aimv2.training.distributed import dismiss, is_launched, place

    config = resolve(config)
    setup_of(config)  # refuses a run that cannot fit the memory
    runs = with_untrained(config)
    with Interrupts().listening() as interrupts:
        if is_launched() and place(config):
            follow(config, interrupts)
            return 0
        try:
            render(config.data)
            prepared(config.data, config.model.vocab_size)  # a wrong config is refused before a run starts
            if not all(_complete(runs_dir, title, part, interrupts) for title, part in runs.items()):
                return 1
        finally:
            if is_launched() and config.ranks > 1:
                dismiss()
    _print_results({title: RunFolder(runs_dir, signature(part)) for title, part in runs.items()})
    return 0


def folder_of_runs(values: Mapping[str, Any], config: RunConfig) -> Path:
    """Return the folder of the runs, once it and the data cache can be written; ``values`` are the composed ones."""
    runs_dir = Path(options_of(TrainOptions, values).runs_dir)
    share(runs_dir)
    writable_folder(str(runs_dir), "runs_dir", needs_links=True)
    writable_folder(config.data.cache_dir, "data.cache_dir")
    return runs_dir


def with_untrained(config: RunConfig) -> dict[str, RunConfig]:
    """Return a run and its untrained counterpart; of a run without samples, the counterpart only."""
    runs = {"trained": config, "untrained": untrained(config)}
    return runs if config.budget.samples else {"untrained": runs["untrained"]}


def _complete(runs_dir: Path, title: str, config: RunConfig, interrupts: Interrupts) -> bool:
    from aimv2.run.execute import execute
    from aimv2.run.reuse import reusable

    run = RunFolder(runs_dir, signature(config))
    if run.is_done:
        console.print(f"{title}: run {run.name} is already done", highlight=False)
        return True
    watch = Watch()
    attempt = run.acquire(config, watch=watch)
    if attempt is None and run.sight(watch) == "unsure":
        console.print(f"{title}: watching for {GRACE_SECONDS:.0f} s whether another process works on run {run.name}")
        while attempt is None and run.sight(watch) == "unsure":
            time.sleep(WATCH_POLL_SECONDS)
            attempt = run.acquire(config, watch=watch)
    if attempt is None:
        raise UsageError(f"another process is working on run {run.name}; its progress is in {run.path}")
    if code := code_of_lost_checkpoint(run.path):
        restart = f"run {run.name} starts again at step 0: its checkpoint is of other code ({code})"
        console.print(f"{title}: {restart}", highlight=False, soft_wrap=True)
    found = reusable({run.name: config}, runs_dir) if config.budget.samples else {}
    trained = next((one.folder for one in found.values() if one.is_ours), None)
    if trained is not None:
        same = f"the weights of run {trained.name}, which differs in evaluation only"
        console.print(f"{title}: run {run.name} measures {same}", highlight=False, soft_wrap=True)
    state = TextColumn("{task.fields[state]}")
    total = config.budget.samples or 1
    with Progress("{task.description}", BarColumn(), TaskProgressColumn(), state, TimeRemainingColumn()) as progress:
        task = progress.add_task(title, total=total, state="")

        def show(rows: list[dict[str, float]]) -> None:
            last = rows[-1]
            state = f"{last['samples']:,} samples  {losses_of(last)}  {last['images_per_second']:.0f} images/s"
            progress.update(task, completed=last["samples"], state=state)

        failure = execute(attempt, config, show, interrupts, trained=trained)
        if failure is None:
            progress.update(task, completed=total)
            return True
    print_error(RuntimeError(f"run {run.name} failed ({failure.cause}): {failure.message}"))
    console.print(f"traceback: {attempt.folder / 'failure.json'}")
    return False


def _print_results(runs: dict[str, RunFolder]) -> None:
    """Print a column of metrics for each run, and the metrics that do not apply to the first one."""
    run, *_ = runs.values()
    metrics, *others = (run.result()["metrics"] for run in runs.values())
    table = Table(Column("metric", no_wrap=True), *runs, "unit", title=f"run {run.name}")
    for name, metric in metrics.items():
        if metric["value"] is not None:
            cells = [f"{found[name]['value']:.4f}" if name in found else "not measured" for found in (metrics, *others)]
            # What follows "of" is in the metric's name: raw pixels or standardised.
            table.add_row(name, *cells, metric["unit"].partition(" of ")[0])
    console.print(table)
    for name, metric in metrics.items():
        if metric["warning"]:
            console.print(f"warning: {name}: {metric['warning']}", highlight=False, soft_wrap=True)
    if absent := [name for name, metric in metrics.items() if metric["value"] is None]:
        console.print(f"not applicable to this run: {', '.join(absent)}", highlight=False, soft_wrap=True)
    console.print(f"run folder: {run.path}", soft_wrap=True)
