"""python sweeps/launch.py sweep=prefix_ratio: run a study, each of its runs once, and write its report."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from ablations.catalogue import STUDIES
from ablations.study import Cell, Launched, Study, write_launched
from aimv2.checks import checked, writable_folder
from aimv2.cli import guarded
from aimv2.compose import RUN_KEYS, compose, run_config
from aimv2.config import RunConfig
from aimv2.errors import UsageError, unknown
from aimv2.interrupt import Interrupts
from sweeps.board import print_failures, print_plan
from sweeps.drive import do_runs, prepare_data
from sweeps.executors import CONF_DIR, ExecutorConfig
from sweeps.plan import Plan

USAGE = """usage: python sweeps/launch.py sweep=NAME [key=value ...]

Run a study and write its report. A run is named by what it computes and done once: launching again, or somewhere else
at the same time, does what is missing.

sweeps:
{sweeps}

  sweep.arms=[a,b]             some of the arms
  sweep.seeds=5                seeds 0..4, or a list
  scale=demo                   the recipe that every arm starts from
  budget.samples=4096          any value of that recipe, by its path
  executor=local|debug         worker processes, or all in this process
  executor.workers=1           how many
  executor.minutes=60          a worker's time, after which the next goes on from its checkpoint
  dry_run=true                 print the plan and its price, run nothing
  runs_dir=runs reports_dir=reports
  debug=true                   show the traceback of an error
"""

console = Console(highlight=False)


@dataclass(frozen=True)
class Launch:
    """What was asked for, checked."""

    study: Study
    plan: Plan
    executor: ExecutorConfig
    runs_dir: Path
    reports_dir: Path
    cache_dir: Path
    is_dry: bool


def main(arguments: Sequence[str]) -> int:
    """Launch; the exit status is 0 when every run is done, 1 when some failed, 2 when it was not possible."""
    if not arguments or set(arguments) & {"-h", "--help"}:
        print(USAGE.format(sweeps=_described_sweeps()), end="")
        return 0 if arguments else 2
    with Interrupts().listening():
        return guarded(partial(launch, arguments), debug="debug=true" in arguments)


def launch(arguments: Sequence[str]) -> int:
    asked = read(arguments)
    study, plan = asked.study, asked.plan
    if not asked.is_dry:
        writable_folder(str(asked.runs_dir), "runs_dir")
        writable_folder(str(asked.reports_dir), "reports_dir")
        writable_folder(str(asked.cache_dir), "data.cache_dir")
    remaining = plan.remaining()
    print_plan(console, study, plan, asked.executor, remaining, is_dry=asked.is_dry)
    if asked.is_dry:
        return 0
    if remaining:
        prepare_data(plan)
    launched = Launched(cells=plan.cells, arguments=tuple(arguments))
    write_launched(asked.runs_dir, study, launched)
    do_runs(plan, asked.executor, console)
    has_failed = print_failures(console, plan)

    from analysis.report import build

    console.print(f"report: {build(study, launched, asked.runs_dir, asked.reports_dir)}", soft_wrap=True)
    return 1 if has_failed else 0


def read(arguments: Sequence[str]) -> Launch:
    """Compose and check what was typed.

    Raises:
        UsageError: it names something that does not exist, asks for a run that cannot be, or has no effect.
    """
    if not any(argument.lstrip("-").startswith("sweep=") for argument in arguments):
        raise UsageError(f"which sweep? Say sweep=NAME. Allowed: {', '.join(STUDIES)}.")
    values = _composed(arguments)
    runs_dir = Path(checked("runs_dir", str, values["runs_dir"]))
    base, cells = _cells(values)
    _check_effect(arguments, base, cells)
    _check_metric(STUDIES[values["sweep"]["slug"]], base)
    checked("debug", bool, values["debug"])
    executor = checked("executor", ExecutorConfig, values["executor"])
    executor.num_workers(base.threads)  # refuses what this machine has no room for
    return Launch(
        study=STUDIES[values["sweep"]["slug"]],
        plan=Plan(values["sweep"]["slug"], cells, runs_dir),
        executor=executor,
        runs_dir=runs_dir,
        reports_dir=Path(checked("reports_dir", str, values["reports_dir"])),
        cache_dir=Path(base.data.cache_dir),
        is_dry=checked("dry_run", bool, values["dry_run"]),
    )


def _composed(arguments: Sequence[str]) -> dict[str, Any]:
    choices = {
        slug: {"slug": slug, "arms": list(study.arms), "seeds": list(study.seeds)} for slug, study in STUDIES.items()
    }
    return compose(
        arguments,
        defaults={"executor": "local", "sweep": next(iter(STUDIES))},
        values={"dry_run": False, "runs_dir": "runs", "reports_dir": "reports", "debug": False},
        groups={"sweep": choices},
        conf_dir=CONF_DIR,
    )


def _cells(values: Mapping[str, Any]) -> tuple[RunConfig, list[Cell]]:
    """The run that every arm starts from, and the study's cells."""
    from aimv2.objectives import objective
    from aimv2.resolve import resolve

    sweep = values["sweep"]
    if sweep["slug"] not in STUDIES:
        raise unknown("sweep", str(sweep["slug"]), STUDIES)
    seeds = sweep["seeds"]
    if isinstance(seeds, int) and seeds < 1:
        raise UsageError(f"sweep.seeds={seeds} must be at least 1, or a list of seeds")
    seeds = list(range(seeds)) if isinstance(seeds, int) else checked("sweep.seeds", list[int], seeds)
    base = resolve(run_config(values))
    arms = checked("sweep.arms", list[str], sweep["arms"])
    cells = STUDIES[sweep["slug"]].cells(base, arms=arms, seeds=seeds)
    for cell in cells:
        objective(cell.config.objective.name).check(cell.config)
    return base, cells


def _check_effect(arguments: Sequence[str], base: RunConfig, cells: list[Cell]) -> None:
    """Refuse overrides that every arm replaces by its own value; they would be lost without a word."""
    for part in sorted({argument.split("=")[0].split(".")[0] for argument in arguments} & set(RUN_KEYS)):
        these = [argument for argument in arguments if argument.split("=")[0].split(".")[0] == part]
        if part == "seed":
            raise UsageError(f"{these[0]} changes nothing: sweep.seeds names the seeds")
        without, others = _cells(_composed([argument for argument in arguments if argument not in these]))
        if without != base and others == cells:
            raise UsageError(f"{' '.join(these)} changes nothing: every arm of the sweep sets its own {part}")


def _check_metric(study: Study, base: RunConfig) -> None:
    """Refuse a base run that cannot report what the study compares."""
    from aimv2.evaluation.evaluate import not_applicable

    absent = not_applicable(base)
    if study.primary_metric in absent:
        reason = absent[study.primary_metric].evaluation
        raise UsageError(f"sweep {study.slug!r} compares {study.primary_metric}, which is {reason}")


def _described_sweeps() -> str:
    return "\n".join(f"  {slug:<28} {study.question}" for slug, study in STUDIES.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
