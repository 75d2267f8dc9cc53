"""A search as a launch displays it before it starts: the space, what is done, and the price of the rest."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ablations.adapt import announcements
from ablations.design import Factor, Range
from aimv2.config.run_config import RunConfig
from sweeps.executors.base import Executor
from sweeps.plan_display import priced
from sweeps.pricing.price import Clock, price
from sweeps.search.space import SPLIT, Search
from sweeps.search.trials import trials_of


def print_search(
    console: Console, search: Search, runs_dir: Path, executor: Executor, left: Sequence[RunConfig], clock: Clock
) -> None:
    """Print the space of a search, how it is searched, and the price of what is left of it."""
    study, config = search.study, search.config
    console.print(f"[bold]{search.name}[/bold]: {study.question}", soft_wrap=True)
    for sentence in announcements(study):
        console.print(f"note: {sentence}", soft_wrap=True, markup=False)
    for name, factor in study.design.space.items():
        console.print(f"  {name}: {_factor(factor)}", soft_wrap=True, markup=False)
    goals = [f"{direction} {metric}" for direction, metric in zip(search.directions, search.metrics, strict=True)]
    pruning = "no pruning" if search.pruner == "none" else f"pruned by {search.pruner} on {search.curve}"
    console.print(
        f"{' and '.join(goals)} on the {SPLIT} split; sampler {config.sampler}, {pruning}, trials with seed"
        f" {config.seed}",
        soft_wrap=True,
    )
    console.print(
        f"then the winner is compared with the baseline, {study.baseline}, on seeds"
        f" {', '.join(map(str, search.seeds))}; that is the result",
        soft_wrap=True,
    )
    done = trials_of(runs_dir, search.name).described or "none yet"
    counted = f": {done}" if config.storage is None else f", which are in {config.storage}"
    console.print(f"scale {search.base.scale}, {search.num_trials} trials{counted}", soft_wrap=True)
    if search.num_trials < config.trials:
        console.print(
            f"note: the space has {search.num_trials} points, and each is tried once, unless search.repeats=true",
            soft_wrap=True,
        )
    if left:
        console.print(priced(price(left, clock), executor, list(left)), soft_wrap=True)
    else:
        console.print("nothing is left to do")


def _factor(factor: Factor | Range) -> str:
    if isinstance(factor, Range):
        return f"{factor.low:g} to {factor.high:g}{', on a logarithmic scale' * factor.log}"
    return ", ".join(factor)
