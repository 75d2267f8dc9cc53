"""``python -m aimv2 train``: one run, and its untrained encoder for comparison."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from aimv2.base.errors import UsageError
from aimv2.base.files import share, writable_folder
from aimv2.base.interrupt import Interrupts
from aimv2.config.arguments import HELP, defaults_of, options_of, print_error
from aimv2.config.run_config import RunConfig
from aimv2.data.provenance import check_finished, shares_of_captions
from aimv2.memory.machine import rank_memory
from aimv2.memory.setup import check_evaluation, loading_of, setup_of
from aimv2.memory.training import predict
from aimv2.request.compose import compose, run_config, with_file
from aimv2.run.options import TrainOptions, train_usage
from aimv2.run.price import Limit, check_cpu, check_limits, duration, price, read_limits
from aimv2.run.reuse import Training, reusable
from aimv2.run.times import RecordedClock, calibrate, remember
from aimv2.runs.lease import GRACE_SECONDS, Watch
from aimv2.runs.provenance import code_of_lost_checkpoint, saved_step
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import losses_of

LIMIT = "limit="
WATCH_POLL_SECONDS = 1.0

console = Console()


def train_command(overrides: Sequence[str]) -> int:
    """Train and evaluate the composed run and its untrained counterpart, unless done, and print both results.

    A run without samples has no counterpart.
    """
    if HELP & set(overrides):
        print(train_usage(), end="")
        return 0
    words, limits = split_limits(with_file(overrides))
    values = compose(words, defaults={}, values=defaults_of(TrainOptions))
    config = run_config(values)
    runs_dir = folder_of_runs(values, config)

    from aimv2.data.prepare import render
    from aimv2.request.resolve import resolve
    from aimv2.run.execute import follow, prepared
    from aimv2.training.distributed import dismiss, is_launched, place

    config = resolve(config)
    runs = with_untrained(config)
    interrupts = Interrupts(acknowledges=os.environ.get("RANK", "0") == "0")  # a terminal interrupts all ranks
    with interrupts.listening():
        if is_launched() and place(config):
            follow(config, interrupts)
            return 0
        try:
            _check_price(runs, runs_dir, limits)
            render(config.data)
            prepared(config.data, config.model.vocab_size)  # a wrong config is refused before a run starts
            if not all(_complete(runs_dir, title, part, interrupts) for title, part in runs.items()):
                return 1
        finally:
            if is_launched() and config.ranks > 1:
                dismiss()
    print_results({title: RunFolder(runs_dir, part.name) for title, part in runs.items()})
    return 0


def split_limits(words: Sequence[str]) -> tuple[list[str], list[Limit]]:
    """Return the words without ``limit=``, whose commas and units are not of Hydra's grammar, and its limits."""
    limits = [limit for word in words if word.startswith(LIMIT) for limit in read_limits(word.removeprefix(LIMIT))]
    return [word for word in words if not word.startswith(LIMIT)], limits


def folder_of_runs(values: Mapping[str, Any], config: RunConfig) -> Path:
    """Return the folder of the runs, once it and the data cache can be written; ``values`` are the composed ones."""
    runs_dir = Path(options_of(TrainOptions, values).runs_dir)
    share(runs_dir)
    writable_folder(str(runs_dir), "runs_dir", needs_links=True)
    writable_folder(config.data.cache_dir, "data.cache_dir")
    return runs_dir


def with_untrained(config: RunConfig) -> dict[str, RunConfig]:
    """Return a run and its untrained counterpart; of a run without samples, the counterpart only."""
    runs = {"trained": config, "untrained": config.untrained()}
    return runs if config.budget.samples else {"untrained": runs["untrained"]}


def _check_price(runs: Mapping[str, RunConfig], runs_dir: Path, limits: Sequence[Limit]) -> None:
    """Print what is left to do of the runs, what it costs and how it is set up; refuse it above the limits."""
    left = [part for part in runs.values() if not RunFolder(runs_dir, part.name).is_done]
    left = [replace(part, budget=replace(part.budget, samples=_samples_left(part, runs_dir))) for part in left]
    if not left:
        return
    from aimv2.training.local_ranks import check_gpus

    for one in left:
        check_gpus(one)
        loading_of(one, setup_of(one))  # this and the next refuse a run that cannot fit the memory
        check_evaluation(one)
    config, is_timed = left[0], any(limit.quantity == "seconds" for limit in limits)
    clock = RecordedClock(measure=calibrate if is_timed else None)
    cost = price(left, clock if config.ranks == 1 else lambda run: None)
    needed = "the time is not known, because nothing like it has run here"
    if cost.seconds is not None:
        needed = f"{duration(cost.seconds)} of training and evaluation, at the speed measured here{cost.basis}"
    console.print(f"price: {cost.described(num_workers=1)}; {needed}", highlight=False, soft_wrap=True)
    if config.budget.samples:
        console.print(f"setup: {_described_setup(config)}", highlight=False, soft_wrap=True)
        if shares := shares_of_captions(config.data):
            console.print(shares, highlight=False, soft_wrap=True, markup=False)
    check_limits(limits, cost, num_workers=1)
    if config.device == "cpu":
        check_cpu(cost.flops, limits)


def _samples_left(config: RunConfig, runs_dir: Path) -> int:
    """Return the samples to train on after the run's newest checkpoint; 0 if the weights of another run are reused."""
    if _reused(config, runs_dir):
        return 0
    done = saved_step(runs_dir / config.name)
    return config.budget.samples - done * config.budget.batch_size


def _reused(config: RunConfig, runs_dir: Path) -> Training | None:
    """Return the training of a finished run that differs in evaluation only, if this code has done it."""
    found = reusable({"": config}, runs_dir) if config.budget.samples else {}
    return next((one for one in found.values() if one.is_ours), None)


def _described_setup(config: RunConfig) -> str:
    """Return in words how the run is trained, and the predicted memory of a rank beside that of this machine."""
    setup, budget = setup_of(config), config.budget
    memory, here = predict(config, setup).total, rank_memory(config)
    words = [f"{budget.samples:,} samples in batches of {budget.batch_size:,}"]
    if config.ranks > 1:
        words.append(f"{setup.parallel} on {config.ranks} ranks")
    if setup.micro_batch < budget.batch_size // config.ranks:
        words.append(f"micro-batches of {setup.micro_batch:,}")
    if setup.activation_checkpointing:
        words.append("activation checkpointing")
    each = " of each rank" if config.ranks > 1 else ""
    return f"{', '.join(words)}; predicted memory{each} {memory / 1e9:.1f} of {here / 1e9:.1f} GB"


def _complete(runs_dir: Path, title: str, config: RunConfig, interrupts: Interrupts) -> bool:
    from aimv2.run.execute import execute

    run = RunFolder(runs_dir, config.name)
    if run.is_done:
        check_finished([config])
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
    reused = _reused(config, runs_dir)
    trained = None if reused is None else reused.folder
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
            if trained is None and config.ranks == 1:
                remember(config, run.path)
            return True
    print_error(RuntimeError(f"run {run.name} failed ({failure.cause}): {failure.message}"))
    console.print(f"traceback: {attempt.folder / 'failure.json'}")
    return False


def print_results(runs: dict[str, RunFolder]) -> None:
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
