"""The command line of a single run."""

import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from aimv2.checks import checked, writable_folder
from aimv2.compose import compose, run_config
from aimv2.config import RunConfig, signature, untrained
from aimv2.errors import RunFailedError, UsageError
from aimv2.record import RunFolder

USAGE = """usage: python -m aimv2 train [key=value ...]

Train one run and evaluate it, beside its untrained encoder. A run is named by what it computes and done once: asking
again prints its result.

  scale=demo                   the recipe to start from ({scales})
  budget.samples=4096          any value of the recipe, by its path
  runs_dir=runs                where runs are kept
  debug=true                   show the traceback of an error

Every value and its meaning: aimv2/config.py
"""

STATE = "{samples:,} samples  text {text_loss:.3f}  pixel {pixel_loss:.3f}  {images_per_second:.0f} images/s"

WIDE = 140  # columns in which the metrics' evaluations can be read too

console = Console()


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status is 0 when the run is done, 1 when it failed, 2 when it was not possible."""
    from aimv2.scales import SCALES

    if not arguments or set(arguments) & {"-h", "--help"}:
        print(USAGE.format(scales=", ".join(SCALES)), end="")
        return 0 if arguments else 2
    if arguments[0] != "train":
        return say_error(UsageError(f"unknown command {arguments[0]!r}. Allowed: train."))
    return guarded(partial(train_command, arguments[1:]), debug="debug=true" in arguments)


def guarded(command: Callable[[], int], *, debug: bool) -> int:
    """Run a command; turn the errors that are a user's to mend into one sentence and a status."""
    try:
        return command()
    except KeyboardInterrupt:
        console.print("interrupted; the same command does what is missing", style="yellow")
        return 130
    except UsageError as error:
        if debug:
            traceback.print_exc()
        return say_error(error)
    except (OSError, RunFailedError) as error:
        if debug:
            traceback.print_exc()
        return say_error(error, status=1)


def say_error(error: Exception, *, status: int = 2) -> int:
    """Print one sentence and hand back the exit status."""
    Console(stderr=True).print(f"error: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
    return status


def train_command(overrides: Sequence[str]) -> int:
    """Train the composed run and its untrained counterpart, whichever is not done yet, and print both results."""
    values = compose(overrides, defaults={}, values={"runs_dir": "runs", "debug": False})
    config = run_config(values)
    checked("debug", bool, values["debug"])
    runs_dir = writable_folder(checked("runs_dir", str, values["runs_dir"]), "runs_dir")
    writable_folder(config.data.cache_dir, "data.cache_dir")

    from aimv2.data.pairs import prepare
    from aimv2.resolve import resolve

    config = resolve(config)
    prepare(config.data, config.model, show_progress=True)
    runs = {"trained": config, "untrained": untrained(config)}
    if not all(_complete(runs_dir, title, part) for title, part in runs.items()):
        return 1
    _print_results({title: RunFolder(runs_dir, signature(part)) for title, part in runs.items()})
    return 0


def _complete(runs_dir: Path, title: str, config: RunConfig) -> bool:
    from aimv2.run import execute

    run = RunFolder(runs_dir, signature(config))
    if run.is_done:
        console.print(f"{title}: run {run.name} is done already", highlight=False)
        return True
    attempt = run.claim(config)
    if attempt is None:
        raise UsageError(f"run {run.name} is being done by another process; {run.path} has its progress")
    state = TextColumn("{task.fields[state]}")
    with Progress("{task.description}", BarColumn(), TaskProgressColumn(), state, TimeRemainingColumn()) as progress:
        task = progress.add_task(title, total=config.budget.samples or 1, state="")

        def show(rows: list[dict[str, float]]) -> None:
            last = rows[-1]
            progress.update(task, completed=last["samples"], state=STATE.format(**last))

        failure = execute(attempt, config, show)
    if failure is not None:
        say_error(RuntimeError(f"run {run.name} failed ({failure.cause}): {failure.message}"))
        console.print(f"traceback: {attempt.folder / 'failure.json'}")
    return failure is None


def _print_results(runs: dict[str, RunFolder]) -> None:
    is_wide = console.width >= WIDE
    table = Table("metric", *runs, "unit", *(["evaluation"] if is_wide else []), title=f"run {runs['trained'].name}")
    results = {title: run.result()["metrics"] for title, run in runs.items()}
    for name, metric in results["trained"].items():
        cells = [f"{result[name]['value']:.4f}" if name in result else "not measured" for result in results.values()]
        table.add_row(name, *cells, metric["unit"], *([metric["evaluation"]] if is_wide else []))
    console.print(table)
    console.print(f"everything else about it: {runs['trained'].path}")
