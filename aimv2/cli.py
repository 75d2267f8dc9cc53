"""python -m aimv2: single runs, what they cost, whether they work, their weights and their speed."""

import math
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from aimv2.config.arguments import HELP, checked, key_values
from aimv2.config.compose import compose, run_config
from aimv2.config.run_config import RunConfig
from aimv2.config.scales import SCALES
from aimv2.config.signature import signature, untrained
from aimv2.errors import RunFailedError, UsageError, unknown
from aimv2.objectives import REGISTRY
from aimv2.runs.files import share, writable_folder
from aimv2.runs.interrupt import Interrupts
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import losses_of

if TYPE_CHECKING:
    from aimv2.cost import Part

USAGE = """usage: python -m aimv2 COMMAND [key=value ...]

  train                        train one run and evaluate it, beside its untrained encoder
  cost                         parameters, FLOPs and activation memory of a run, part by part; trains nothing
  weights import|export        public AIMv2 weights (transformers, timm, ml-aim): from=PATH to=FOLDER
  bench encoder                the encoder's speed beside timm's and transformers'

  COMMAND --help               what the command takes
  debug=true                   (every command) show the traceback of an error
"""

RUN_VALUES = """  scale=demo                   the recipe to start from ({scales})
  objective.name=aimv2         what is optimised ({objectives})
  budget.samples=4096          any value of the recipe, by its path (aimv2/config/run_config.py)
"""

TRAIN_USAGE = f"""usage: python -m aimv2 train [key=value ...]

Train one run and evaluate it, beside its untrained encoder. A run is named by what it computes and done once: asking
again prints its result. budget.samples=0 is the untrained encoder alone.

{RUN_VALUES}  runs_dir=runs                where runs are kept
  debug=true                   show the traceback of an error
"""

COST_USAGE = f"""usage: python -m aimv2 cost [key=value ...]

Print parameters, FLOPs and activation memory of a run, part by part. Nothing is trained.

{RUN_VALUES}  debug=true                   show the traceback of an error
"""

BYTES = 4  # of a float32
WIDE = 140  # columns in which the metrics' evaluations can be read too

console = Console()


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status is 0 when the run is done, 1 when it failed, 2 when it was not possible."""
    if not arguments or arguments[0] in HELP:
        print(USAGE, end="")
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        return say_error(unknown("command", name, COMMANDS))
    return guarded(COMMANDS[name], rest)


def guarded(command: Callable[[list[str]], int], arguments: Sequence[str]) -> int:
    """Run a command; turn the errors that are a user's to mend into one sentence and a status.

    ``debug=true``, which every command takes and none sees, shows their tracebacks too.
    """
    debugs = [argument for argument in arguments if argument.startswith("debug=")]
    debug = False
    try:
        if debugs:
            debug = checked("debug", bool, key_values(debugs, ["debug"])["debug"])
        return command([argument for argument in arguments if argument not in debugs])
    except KeyboardInterrupt:
        console.print("interrupted; the same command does what is missing, from the last checkpoint on", style="yellow")
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
    """Train the composed run and its untrained counterpart, whichever is not done yet, and print both results.

    A run without samples is the untrained one, and alone.
    """
    if HELP & set(overrides):
        return _print_usage(TRAIN_USAGE)
    values = compose(overrides, defaults={}, values={"runs_dir": "runs"})
    config = run_config(values)
    runs_dir = Path(checked("runs_dir", str, values["runs_dir"]))
    share(runs_dir)
    writable_folder(str(runs_dir), "runs_dir")
    writable_folder(config.data.cache_dir, "data.cache_dir")

    from aimv2.config.resolve import resolve
    from aimv2.data.pairs import prepare
    from aimv2.execute import follow
    from aimv2.training.distributed import dismiss, place

    config = resolve(config)
    runs = {"trained": config, "untrained": untrained(config)}
    if not config.budget.samples:
        del runs["trained"]
    with Interrupts().listening() as interrupts:
        if place(config):
            follow(config, interrupts)
            return 0
        try:
            prepare(config.data, config.model, show_progress=True)
            if not all(_complete(runs_dir, title, part, interrupts) for title, part in runs.items()):
                return 1
        finally:
            if config.ranks > 1:
                dismiss()
    _print_results({title: RunFolder(runs_dir, signature(part)) for title, part in runs.items()})
    return 0


def cost_command(overrides: Sequence[str]) -> int:
    """Print what the composed run costs, part by part."""
    if HELP & set(overrides):
        return _print_usage(COST_USAGE)
    config = run_config(compose(overrides, defaults={}))

    from aimv2.config.resolve import with_attention
    from aimv2.cost import train_flops
    from aimv2.objectives import objective

    config = with_attention(config)
    goal = objective(config.objective.name)
    goal.check(config)
    parts, model, samples = goal.cost(config), config.model, config.budget.samples
    tokens = model.max_text_tokens
    console.print(
        f"scale {config.scale}, objective {config.objective.name}: {model.image_px} px images in {model.num_patches}"
        f" patches, captions of {tokens} tokens",
        soft_wrap=True,
    )
    console.print(_cost_table(config, parts))
    console.print(
        "FLOPs per image, 2 for a multiply and an add; norms, activations and softmax are left out. Forward is what a"
        " forward pass computes: attention for every pair of positions, of which useful is what the mask lets through."
        " Training is forward and backward. Kept: bytes per image for the backward pass, in float32.",
        soft_wrap=True,
    )
    console.print(
        f"A run of {samples:,} samples: {train_flops(parts, samples, samples * tokens):.3g} training FLOPs, if every"
        " caption fills its tokens.",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _print_usage(usage: str) -> int:
    print(usage.format(scales=", ".join(SCALES), objectives=", ".join(REGISTRY)), end="")
    return 0


def _cost_table(config: RunConfig, parts: "list[Part]") -> Table:
    from aimv2.cost import forward_flops, train_flops

    tokens = config.model.max_text_tokens
    rows = [
        (
            part.parameters,
            forward_flops([part], 1, tokens),
            part.attention,
            part.useful_attention,
            train_flops([part], 1, tokens),
            BYTES * (part.kept + tokens * part.kept_per_token),
        )
        for part in parts
    ]
    all_parts = [sum(column) for column in zip(*rows, strict=True)]
    titles = ("parameters", "forward", "attention", "useful", "training", "kept")
    columns = [
        Column(title, _in_thousands(total), justify="right") for title, total in zip(titles, all_parts, strict=True)
    ]
    table = Table(Column("", "all"), *columns, show_footer=True, box=SIMPLE, padding=(0, 1, 0, 0))
    for part, row in zip(parts, rows, strict=True):
        table.add_row(part.name, *map(_in_thousands, row))
    return table


def _in_thousands(value: float) -> str:
    """Four digits and a prefix: 309197824 is 309.2 M."""
    if not value:
        return "–"
    power = min(int(math.log10(value)) // 3, 5) if value >= 1000 else 0
    return f"{value / 1000**power:.4g} {' kMGTP'[power]}".rstrip()


def weights_command(arguments: Sequence[str]) -> int:
    from aimv2.weights import command

    return command.weights_command(arguments)


def bench_command(arguments: Sequence[str]) -> int:
    from aimv2 import bench

    return bench.bench_command(arguments)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": train_command,
    "cost": cost_command,
    "weights": weights_command,
    "bench": bench_command,
}


def _complete(runs_dir: Path, title: str, config: RunConfig, interrupts: Interrupts) -> bool:
    from aimv2.execute import execute

    run = RunFolder(runs_dir, signature(config))
    if run.is_done:
        console.print(f"{title}: run {run.name} is done already", highlight=False)
        return True
    attempt = run.acquire(config)
    if attempt is None:
        raise UsageError(f"run {run.name} is being done by another process; {run.path} has its progress")
    state = TextColumn("{task.fields[state]}")
    with Progress("{task.description}", BarColumn(), TaskProgressColumn(), state, TimeRemainingColumn()) as progress:
        task = progress.add_task(title, total=config.budget.samples or 1, state="")

        def show(rows: list[dict[str, float]]) -> None:
            last = rows[-1]
            state = f"{last['samples']:,} samples  {losses_of(last)}  {last['images_per_second']:.0f} images/s"
            progress.update(task, completed=last["samples"], state=state)

        failure = execute(attempt, config, show, interrupts)
    if failure is not None:
        say_error(RuntimeError(f"run {run.name} failed ({failure.cause}): {failure.message}"))
        console.print(f"traceback: {attempt.folder / 'failure.json'}")
    return failure is None


def _show(metric: dict[str, Any] | None) -> str:
    return "not measured" if metric is None else f"{metric['value']:.4f}"


def _print_results(runs: dict[str, RunFolder]) -> None:
    """A column of metrics for each run; the first names the table, and says which metrics do not apply to it."""
    is_wide = console.width >= WIDE
    run, *_ = runs.values()
    table = Table(
        Column("metric", no_wrap=True),
        *runs,
        "unit",
        *(["evaluation"] if is_wide else []),
        title=f"run {run.name}",
    )
    results = {title: run.result()["metrics"] for title, run in runs.items()}
    metrics = results[next(iter(runs))]
    for name, metric in metrics.items():
        if metric["value"] is None:
            continue
        cells = [_show(result.get(name)) for result in results.values()]
        unit = metric["unit"].partition(" of ")[0]  # what it is a squared error of, the metric's name says
        table.add_row(name, *cells, unit, *([metric["evaluation"]] if is_wide else []))
    console.print(table)
    if absent := [name for name, metric in metrics.items() if metric["value"] is None]:
        console.print(f"not applicable to this run: {', '.join(absent)}", highlight=False, soft_wrap=True)
    console.print(f"everything else about it: {run.path}", soft_wrap=True)
