"""python sweeps/launch.py sweep=prefix_ratio: run a study, each of its runs once, and write its report."""

import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from ablations.catalogue import STUDIES
from ablations.study import UNTRAINED, Cell, write_cells
from aimv2.cli import guarded
from aimv2.compose import compose, run_config, writable_folder
from aimv2.config import RunConfig, explain, flatten, to_dict
from aimv2.errors import UsageError
from sweeps.board import Board, duration, print_failures, print_plan, wait
from sweeps.executors import ExecutorConfig, start_workers, stop_workers
from sweeps.plan import Plan
from sweeps.slots import num_cores
from sweeps.worker import Task, WorkerReport, interrupt

CONF_DIR = Path(__file__).parent / "conf"
DEFAULTS = {"executor": "local"}
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
  dry_run=true                 print the plan and its price, run nothing
  runs_dir=runs reports_dir=reports
  debug=true                   show the traceback of an error
"""

console = Console(highlight=False)


@dataclass(frozen=True)
class Launch:
    """What was asked for, checked."""

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
    signal.signal(signal.SIGTERM, interrupt)
    return guarded(partial(launch, arguments), debug="debug=true" in arguments)


def launch(arguments: Sequence[str]) -> int:
    asked = read(arguments)
    plan = asked.plan
    if not asked.is_dry:
        writable_folder(str(asked.runs_dir), "runs_dir")
        writable_folder(str(asked.reports_dir), "reports_dir")
        writable_folder(str(asked.cache_dir), "data.cache_dir")
    remaining = plan.remaining()
    print_plan(console, plan, asked.executor, remaining)
    if asked.is_dry:
        return 0
    if remaining:
        _prepare_data(plan)
    write_cells(asked.runs_dir, plan.study, plan.cells)
    do_runs(asked)
    has_failed = print_failures(console, plan)

    from analysis.report import build

    console.print(f"report: {build(plan.study, asked.runs_dir, asked.reports_dir)}", soft_wrap=True)
    return 1 if has_failed else 0


def read(arguments: Sequence[str]) -> Launch:
    """Compose and check what was typed.

    Raises:
        UsageError: it names something that does not exist, or asks for a run that cannot be.
    """
    sweeps = {
        slug: {"slug": slug, "arms": list(study.arms), "seeds": list(study.seeds)} for slug, study in STUDIES.items()
    }
    if not any(argument.startswith("sweep=") for argument in arguments):
        raise UsageError(f"which sweep? Say sweep=NAME. Allowed: {', '.join(STUDIES)}.")
    values = compose(
        arguments,
        defaults={**DEFAULTS, "sweep": next(iter(STUDIES))},
        values={"dry_run": False, "runs_dir": "runs", "reports_dir": "reports", "debug": False},
        groups={"sweep": sweeps},
        conf_dir=CONF_DIR,
    )
    from aimv2.training.device import resolve

    base = resolve(run_config(values))
    study = STUDIES[values["sweep"]["slug"]]
    seeds = _checked("sweep.seeds", list[int] | int, values["sweep"]["seeds"])
    arms = _checked("sweep.arms", list[str], values["sweep"]["arms"])
    cells = study.cells(base, arms=arms, seeds=range(seeds) if isinstance(seeds, int) else seeds)
    _check_effect(arguments, base, cells)
    if not cells:
        raise UsageError("nothing to run: sweep.arms and sweep.seeds must name at least one each")
    runs_dir = Path(values["runs_dir"])
    return Launch(
        plan=Plan(study, cells, runs_dir),
        executor=_checked("executor", ExecutorConfig, values["executor"]),
        runs_dir=runs_dir,
        reports_dir=Path(values["reports_dir"]),
        cache_dir=Path(base.data.cache_dir),
        is_dry=_checked("dry_run", bool, values["dry_run"]),
    )


def do_runs(asked: Launch) -> None:
    """Start workers and watch until every run is done or has failed, whoever does it."""
    plan = asked.plan
    tasks = [Task(name, plan.cell_of[name].config, plan.runs[name].num_attempts) for name in plan.remaining()]
    started = time.perf_counter()
    reports: list[WorkerReport] = []
    with Board(plan, console) as board:
        while still_open := [task for task in tasks if task.is_open(asked.runs_dir)]:
            if all(plan.runs[task.name].state() == "running" for task in still_open):
                board.update()  # another launch has them all
                time.sleep(1)
                continue
            jobs = start_workers(asked.executor, still_open, asked.runs_dir)
            try:
                if asked.executor.cluster != "debug":
                    wait(board, jobs)
                reports += [_report(job) for job in jobs]
            except BaseException:
                if asked.executor.cluster != "debug":
                    stop_workers(jobs)
                raise
            if any(report.was_interrupted for report in reports):
                raise KeyboardInterrupt
    if done := sum(len(report.done) for report in reports):
        wall = time.perf_counter() - started
        cores = min(num_cores(), asked.executor.num_workers * asked.executor.threads_per_worker)
        busy = f"busy {sum(report.cpu_seconds for report in reports) / (cores * wall):.0%} of it"
        were = "cores were" if cores > 1 else "core was"
        console.print(
            f"{done} runs done in {duration(wall)}; {cores} {were} {busy} (CPU seconds / cores / wall)", soft_wrap=True
        )


def _report(job: Any) -> WorkerReport:
    error = job.exception()
    if error is not None:
        raise UsageError(f"a worker ended early; its log is {job.paths.stderr}") from error
    report: WorkerReport = job.result()
    return report


def _prepare_data(plan: Plan) -> None:
    from aimv2.data.pairs import load_pairs

    for data in {cell.config.data for cell in plan.cells}:
        load_pairs(data, show_progress=True)


def _check_effect(arguments: Sequence[str], base: RunConfig, cells: list[Cell]) -> None:
    """An override that every arm or seed replaces by its own value would be lost without a word."""
    wanted, found = flatten(to_dict(base)), [flatten(to_dict(cell.config)) for cell in cells if cell.arm != UNTRAINED]
    for key in (argument.partition("=")[0] for argument in arguments):
        if key == "seed" or (key in wanted and found and all(cell[key] != wanted[key] for cell in found)):
            own = "sweep.seeds names the seeds" if key == "seed" else "every arm of the sweep sets its own"
            raise UsageError(f"{key}={wanted[key]} changes nothing: {own}")


def _checked(key: str, kind: Any, value: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        problem = explain(error)
        raise UsageError(f"{key}: {str(problem).removeprefix('config: ')}") from error


def _described_sweeps() -> str:
    return "\n".join(f"  {slug:<28} {study.question}" for slug, study in STUDIES.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
