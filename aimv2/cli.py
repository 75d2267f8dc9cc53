"""The command line ``python -m aimv2``: train, price, convert weights, evaluate them, index data, measure speed."""

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from pkgutil import resolve_name

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from aimv2.base.errors import RunFailedError, UsageError, unknown
from aimv2.base.files import share, writable_folder
from aimv2.base.interrupt import Interrupts
from aimv2.config.arguments import HELP, checked, key_values
from aimv2.config.run_config import RunConfig
from aimv2.config.signature import signature, untrained
from aimv2.memory import setup_of
from aimv2.request.compose import RUN_VALUES, compose, run_config
from aimv2.runs.lease import GRACE_SECONDS, Watch
from aimv2.runs.provenance import code_of_lost_checkpoint
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import losses_of

USAGE = """usage: python -m aimv2 COMMAND [key=value ...]

  train                        train and evaluate one run, and evaluate its untrained encoder
  cost                         print parameters, FLOPs, memory and setup of a run, without training it
  weights import|export        convert public AIMv2 weights (transformers, timm, ml-aim): from=PATH to=FOLDER
  data index|write|show|audit  index, write, draw and check image-text pairs
  evaluate                     measure a run or public weights on a labelled set: weights=PATH data=FILE.yaml
  bench encoder|step|data      measure the speed of the encoder, of training steps or of data loading

  COMMAND --help               show the keys of a command
  debug=true                   (every command) show the traceback of an error

To check a trained run: python -m analysis.verify
"""

TRAIN_USAGE = f"""usage: python -m aimv2 train [key=value ...]

Train and evaluate one run, and evaluate its untrained encoder for comparison. A run's name is a hash of its config. If
the run is done, its result is printed; if it was interrupted, it resumes from its last checkpoint. budget.samples=0
evaluates the untrained encoder only.

{RUN_VALUES}  runs_dir=runs                the folder of the runs
  debug=true                   show the traceback of an error
"""

WATCH_POLL_SECONDS = 1.0
COMMANDS = {  # imported when they are called, because some load torch
    "train": "aimv2.cli:train_command",
    "cost": "aimv2.tools.cost:cost_command",
    "weights": "aimv2.tools.weights.command:weights_command",
    "evaluate": "aimv2.tools.evaluate.command:evaluate_command",
    "data": "aimv2.tools.data.command:data_command",
    "bench": "benchmarks.command:bench_command",
}

console = Console()


def main(arguments: Sequence[str]) -> int:
    """Run a command and return the exit status: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    if not arguments or arguments[0] in HELP:
        print(USAGE, end="")
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        return print_error(unknown("command", name, COMMANDS))
    return guarded(resolve_name(COMMANDS[name]), rest)


def script() -> int:
    """Run the command that was typed."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return main(sys.argv[1:])


def guarded(command: Callable[[list[str]], int], arguments: Sequence[str]) -> int:
    """Run a command; print errors that the user can fix as one sentence, and return the exit status.

    With ``debug=true``, which is removed from the arguments, the traceback is printed too.
    """
    debugs = [argument for argument in arguments if argument.startswith("debug=")]
    debug = False
    try:
        debug = checked("debug", bool, key_values(debugs, ["debug"]).get("debug", False))
        return command([argument for argument in arguments if argument not in debugs])
    except KeyboardInterrupt:
        console.print("Interrupted. Run the same command to resume from the last checkpoint.", style="yellow")
        return 130
    except (UsageError, OSError, RunFailedError) as error:
        if debug:
            traceback.print_exc()
        return print_error(error, status=2 if isinstance(error, UsageError) else 1)


def print_error(error: Exception, *, status: int = 2) -> int:
    """Print the error's message to stderr and return the exit status."""
    Console(stderr=True).print(f"error: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
    return status


def train_command(overrides: Sequence[str]) -> int:
    """Train and evaluate the composed run and its untrained counterpart, unless done, and print both results.

    A run without samples has no counterpart.
    """
    if HELP & set(overrides):
        print(TRAIN_USAGE, end="")
        return 0
    values = compose(overrides, defaults={}, values={"runs_dir": "runs"})
    config = run_config(values)
    runs_dir = Path(checked("runs_dir", str, values["runs_dir"]))
    share(runs_dir)
    writable_folder(str(runs_dir), "runs_dir", needs_links=True)
    writable_folder(config.data.cache_dir, "data.cache_dir")

    from aimv2.data.prepare import render
    from aimv2.request.resolve import resolve
    from aimv2.run.execute import follow, prepared
    from aimv2.training.distributed import dismiss, place

    config = resolve(config)
    setup_of(config)  # refuses a run that cannot fit the memory
    runs = {"trained": config, "untrained": untrained(config)}
    if not config.budget.samples:
        del runs["trained"]
    with Interrupts().listening() as interrupts:
        if place(config):
            follow(config, interrupts)
            return 0
        try:
            render(config.data)
            prepared(config.data, config.model)  # a wrong config is refused before a run starts
            if not all(_complete(runs_dir, title, part, interrupts) for title, part in runs.items()):
                return 1
        finally:
            if config.ranks > 1:
                dismiss()
    _print_results({title: RunFolder(runs_dir, signature(part)) for title, part in runs.items()})
    return 0


def _complete(runs_dir: Path, title: str, config: RunConfig, interrupts: Interrupts) -> bool:
    from aimv2.run.execute import execute

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
    state = TextColumn("{task.fields[state]}")
    total = config.budget.samples or 1
    with Progress("{task.description}", BarColumn(), TaskProgressColumn(), state, TimeRemainingColumn()) as progress:
        task = progress.add_task(title, total=total, state="")

        def show(rows: list[dict[str, float]]) -> None:
            last = rows[-1]
            state = f"{last['samples']:,} samples  {losses_of(last)}  {last['images_per_second']:.0f} images/s"
            progress.update(task, completed=last["samples"], state=state)

        failure = execute(attempt, config, show, interrupts)
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
