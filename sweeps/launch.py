"""python sweeps/launch.py sweep=prefix_ratio: execute the runs of a study, each once, and write its report."""

import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

if __name__ == "__main__":  # typed as a path: the packages beside it are meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while packages load ends it without a traceback

from rich.console import Console

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import Cell
from aimv2.ablations.request import OF_ONE_LAUNCH, Request, write_request
from aimv2.base.errors import UsageError
from aimv2.base.files import share, writable_folder
from aimv2.base.interrupt import Interrupts
from aimv2.config.arguments import HELP, as_typed, defaults_of, guarded, script_of
from aimv2.request.compose import compose, run_config, with_file
from aimv2.request.resolve import resolve
from aimv2.run.command import folder_of_runs, print_results, split_limits, with_untrained
from aimv2.run.options import TrainOptions
from aimv2.run.price import check_cpu, check_limits, price
from aimv2.run.programs import missing_data, note_on_data
from aimv2.run.reuse import Training
from aimv2.run.times import RecordedClock
from aimv2.runs.record import RunFolder
from aimv2.sweeps.board import Board
from aimv2.sweeps.executors import BUILT_IN
from aimv2.sweeps.executors.base import chosen_executor, end_abandoned, executor_of, executor_values, finish, queue_of
from aimv2.sweeps.freeze import CODE, become_code, freeze
from aimv2.sweeps.parse import LaunchRequest, parse
from aimv2.sweeps.plan import Plan
from aimv2.sweeps.plan_display import Planned, PlannedSweep, PlannedTogether, report_note
from aimv2.sweeps.progress import SINGLE
from aimv2.sweeps.usage import launch_usage

EXTENDED = {"seeds": "sweep.seeds", "samples": "budget.samples"}  # keys of manage.py extend, and those that they set
OF_OLDER = {"search.pruner", "log.wandb", "log.picture_points"}  # keys of recorded launches that no launch has any more

console = Console(highlight=False)


def main(arguments: Sequence[str]) -> int:
    """Launch a sweep; return 0 if every run is done or submitted, 1 if a run failed or a search lacks trials or a
    winner, 2 if the request is refused, 130 if interrupted."""

    def launch_by_code(words: Sequence[str]) -> int:
        if not words or HELP & set(words):
            of_plugins = {name: STUDIES[name].question for name in STUDIES if STUDIES.plugin_of(name)}
            print(launch_usage((), of_plugins), end="")
            return 0 if words else 2
        become_code(arguments)  # with code=, unless that is this code: it does not return
        return launch([word for word in words if not word.startswith(CODE)])

    with Interrupts().listening():
        return guarded(launch_by_code, arguments, as_typed("sweep"))


def script() -> int:
    return script_of(main)


def launch(
    arguments: Sequence[str],
    *,
    only: Collection[str] | None = None,
    measured: Mapping[str, Training] | None = None,
) -> int:
    """Print the plan, check its price, execute the missing runs, or ``only`` those, and write the reports.

    Returns the exit status: about these runs, and of a search about all of its trials. ``measured`` is as in
    ``PlannedSweep``.
    """
    parsed = parse(with_file(arguments))
    plan, executor, is_dry_run = parsed.plan, parsed.executor, parsed.options.dry_run
    notes = [report_note(parsed.request, parsed.reports_dir), parsed.note]
    if missing := missing_data(parsed.request.baseline):  # of a dry run; others refuse it
        notes.append(f"runs have other names than these, and count as missing: {missing}")
    for note in filter(None, notes):
        Console(stderr=True).print(f"note: {note}", highlight=False, soft_wrap=True, markup=False)
    if not is_dry_run:
        share(plan.runs_dir)
        writable_folder(str(plan.runs_dir), "runs_dir", needs_links=True)
        writable_folder(str(parsed.reports_dir), "reports_dir")
        writable_folder(str(plan.cells[0].config.cache_dir), "data.cache_dir")

    planned = _planned(parsed, only, measured)
    work = planned.work
    if work.tasks and not is_dry_run:
        freeze(plan.runs_dir)  # before anything that takes time, since the source may be edited from now on
    planned.show(console, executor, parsed.clock)
    if note := note_on_data(parsed.request.baseline):
        console.print(note, soft_wrap=True, markup=False)
    if work.tasks and parsed.limits:
        num_workers = min(executor.num_workers(work.configs), len(work.configs))
        check_limits(parsed.limits, price(work.priced, parsed.clock), num_workers)
    if is_dry_run:
        if work.tasks and (untested := executor.test(work.configs, plan.runs_dir)):
            console.print(untested, soft_wrap=True)
        return 0

    if not work.tasks:
        for request in plan.requests:
            write_request(plan.runs_dir, request)
    else:
        end_abandoned(plan.runs_dir)
        board = Board(plan, console, queue_of, trials=lambda: work.trials(plan.runs_dir))
        if not executor.launch(plan, work, parsed.reports_dir, board):
            where = "" if plan.runs_dir == Path("runs") else f" runs_dir={plan.runs_dir}"
            console.print(
                f"`{as_typed('manage')} status{where}` shows their progress, and `cancel {plan.title}` ends them",
                soft_wrap=True,
            )
            return 0
    return 0 if finish(plan, work, parsed.reports_dir, console) else 1


def _planned(parsed: LaunchRequest, only: Collection[str] | None, measured: Mapping[str, Training] | None) -> Planned:
    """Return what the launch will do: the work of its study or search, and of the sensitivity study beside it."""
    runs_dir, is_dry_run = parsed.plan.runs_dir, parsed.options.dry_run

    def sweep_of(request: Request) -> PlannedSweep:
        plan = Plan(request.folder, request.cells, runs_dir)
        return PlannedSweep(request.study, plan, only, is_dry_run=is_dry_run, measured=measured)

    if parsed.search is None:
        planned: Planned = sweep_of(parsed.request)
    else:
        from aimv2.sweeps.search.work import PlannedSearch  # here, since Optuna takes a second to load

        planned = PlannedSearch(parsed.search, parsed.request, runs_dir, is_dry_run=is_dry_run)
    return planned if parsed.sensitivity is None else PlannedTogether(sweep_of(parsed.sensitivity), planned)


def submit_command(overrides: Sequence[str]) -> int:
    """Have workers do the runs that ``python -m aimv2 train`` would do here and that are not done.

    Returns 0 if they are done or submitted, 1 if one failed. After a UsageError nothing is left waiting.
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
    plan = Plan(SINGLE, cells, runs_dir)
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
                f"`{as_typed('manage')} logs {cells[0].name}{where}` shows the progress, `cancel {SINGLE}{where}`"
                " ends your single runs, and the same command prints the result once they are done",
                soft_wrap=True,
            )
            return 0
        if not finish(plan, work, None, console):
            return 1
    print_results({cell.arm: RunFolder(runs_dir, cell.name) for cell in cells})
    return 0


def relaunch(request: Request, typed: Mapping[str, str]) -> list[str]:
    """Return the arguments of a request with the values that were typed for ``manage.py retry`` or ``extend``."""
    new = {EXTENDED.get(key, key): value for key, value in typed.items()}
    left_out = {*new, *OF_ONE_LAUNCH, *OF_OLDER, "plugins"}  # plug-ins are those of this process
    kept = [word for word in request.arguments if word.partition("=")[0] not in left_out]
    name = chosen_executor(kept)
    if "executor" not in new and name not in BUILT_IN:
        raise UsageError(
            f"the launch of {request.folder} used executor={name}, which is unknown here; type executor=local"
        )
    if "executor" in new:  # another executor does not have the keys of the old one
        kept = [word for word in kept if not word.startswith(("executor=", "executor."))]
    elif "minutes" not in executor_values(name)[name]:  # which it had in older versions
        kept = [word for word in kept if not word.startswith("executor.minutes=")]
    return kept + [f"{key}={value}" for key, value in new.items()]


if __name__ == "__main__":
    sys.exit(script())
