"""python sweeps/launch.py sweep=prefix_ratio: run a study, each of its runs once, and write its report."""

import dataclasses
import shutil
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from ablations.catalogue import STUDIES
from ablations.expand import Cell, expand
from ablations.expectations import STEP_TIME
from ablations.overrides import StudyOverrides, study_overrides
from ablations.request import Request, write_request
from ablations.study import Study
from aimv2.cli import guarded
from aimv2.config.arguments import HELP, checked
from aimv2.config.compose import RUN_KEYS, compose, run_config
from aimv2.config.paths import replaced, value_at
from aimv2.config.run_config import RunConfig, explain
from aimv2.config.scales import SCALES
from aimv2.errors import UsageError, unknown
from aimv2.runs.files import share, writable_folder
from aimv2.runs.interrupt import Interrupts
from sweeps.executors.cluster import check_array, launch_array
from sweeps.executors.drive import do_runs, prepare_data
from sweeps.executors.local import CONF_DIR, LocalConfig
from sweeps.executors.slurm import SlurmConfig
from sweeps.freeze import freeze
from sweeps.machine.room import shortage
from sweeps.plan import Plan
from sweeps.plan_display import described_sweeps, print_plan
from sweeps.pricing.clock import MachineClock, unknown_time
from sweeps.pricing.price import Clock, Limit, check_limits, price, read_limits
from sweeps.status.board import print_failures

USAGE = """usage: python sweeps/launch.py sweep=NAME [key=value ...]

Run a study and write its report. A run is named by what it computes and done once: launching again, or somewhere else
at the same time, does what is missing.

sweeps, with their price at scale=demo:
{sweeps}

  sweep.arms=[a,b]             some of the arms
  sweep.seeds=5                seeds 0..4, or a list
  sweep.equal=flops|seconds    what arms have in common with the baseline, instead of samples
  sweep.controls=[]            without the null and the positive control
  sweep.baseline= sweep.primary_metric= sweep.equivalence_margin= sweep.question= sweep.source=
  sweep.expected.ARM=better    what is expected of an arm in the primary metric: better, worse, equal, or null
  sweep.claims.CLAIM=[]        without one of the paper's claims; or a list of what must be seen if it holds
                               (arms and their levels are Python: ablations/NAME.py)
  scale=demo                   the recipe that every arm starts from
  budget.samples=4096          any value of that recipe, by its path
  budget=2h                    refuse a plan above it; s, min, h, d on the wall, FLOPs to EFLOPs, MB to TB
  executor=local|debug|slurm   worker processes, all in this process, or a SLURM array (sweeps/conf/executor/slurm.yaml)
  executor.workers=1           how many
  executor.minutes=60          a worker's time, after which the next goes on from its checkpoint
  executor.share_gpu=true      as many runs at once on a GPU as fit its memory
  dry_run=true                 print the plan and its price, run nothing
  runs_dir=runs reports_dir=reports
  debug=true                   show the traceback of an error
"""

# What a study has and a command line cannot say.
PYTHON_KEYS = ("sweep.design", "sweep.factors", "sweep.levels", "sweep.arms.")

console = Console(highlight=False)


@dataclass(frozen=True)
class Launch:
    """What was typed, checked."""

    request: Request
    plan: Plan
    executor: LocalConfig | SlurmConfig
    limits: list[Limit]
    clock: Clock
    reports_dir: Path
    cache_dir: Path
    is_dry: bool


def main(arguments: Sequence[str]) -> int:
    """Launch; the exit status is 0 when every run is done, 1 when some failed, 2 when it was not possible, 130 when it
    was interrupted."""
    if not arguments or HELP & set(arguments):
        print(USAGE.format(sweeps=described_sweeps(STUDIES.values())), end="")
        return 0 if arguments else 2
    with Interrupts().listening():
        return guarded(carry_out, arguments)


def carry_out(arguments: Sequence[str], *, only: Collection[str] | None = None) -> int:
    """Read, price, run, report.

    Args:
        only: names of the runs to do, of those that the arguments ask for; None does whatever is missing. The exit
            status speaks of these.
    """
    read_launch = read(arguments)
    plan, runs_dir = read_launch.plan, read_launch.plan.runs_dir
    if not read_launch.is_dry:
        share(runs_dir)
        writable_folder(str(runs_dir), "runs_dir")
        writable_folder(str(read_launch.reports_dir), "reports_dir")
        writable_folder(str(read_launch.cache_dir), "data.cache_dir")
    remaining = [name for name in plan.remaining() if only is None or name in only]
    if remaining and not read_launch.is_dry:
        freeze(runs_dir)  # before anything that takes time, for whoever launched may go on editing
    print_plan(console, read_launch.request.study, plan, read_launch.executor, remaining, read_launch.clock)
    if read_launch.limits and remaining:
        configs = plan.configs(remaining)
        num_workers = min(read_launch.executor.num_workers(configs), len(remaining))
        check_limits(read_launch.limits, price(configs, read_launch.clock), num_workers)
    if read_launch.is_dry:
        if isinstance(read_launch.executor, SlurmConfig) and remaining:
            if shutil.which("sbatch"):
                check_array(read_launch.executor, plan.configs(remaining), runs_dir)
            else:
                console.print("SLURM was not asked whether it takes this, for there is no sbatch on this machine")
        return 0
    if isinstance(read_launch.executor, SlurmConfig) and remaining:
        launch_array(read_launch.request, plan, remaining, read_launch.executor, read_launch.reports_dir, console)
        write_request(runs_dir, read_launch.request)
        return 0
    write_request(runs_dir, read_launch.request)
    if isinstance(read_launch.executor, LocalConfig):
        if remaining:
            prepare_data(plan)
            if what := shortage(plan.configs(remaining)):
                console.print(what, soft_wrap=True)
        do_runs(plan, read_launch.executor, console, remaining)
    has_failed = print_failures(console, plan, remaining)
    if waiting := set(plan.remaining()) - set(remaining):
        console.print(f"{len(waiting)} still wait{'s' * (len(waiting) == 1)}; launch the sweep again to have them done")

    from analysis.report import build

    console.print(f"report: {build(read_launch.request, runs_dir, read_launch.reports_dir)}", soft_wrap=True)
    return 1 if has_failed else 0


def read(arguments: Sequence[str]) -> Launch:
    """Compose and check what was typed.

    Raises:
        UsageError: it names something that does not exist, asks for a run that cannot be, or has no effect.
    """
    from aimv2.config.resolve import resolve

    limits = [limit for text in _texts(arguments, "budget") for limit in read_limits(text)]
    typed = [argument for argument in arguments if not argument.startswith("budget=")]
    if not _texts(typed, "sweep"):
        raise UsageError(f"which sweep? Say sweep=NAME. Allowed: {', '.join(STUDIES)}.")
    values = _composed(typed)
    run, wanted = run_config(values), _study_overrides(values["sweep"])
    recipe = SCALES[run.scale]()
    _check_change(typed, run, wanted, recipe)
    is_dry = checked("dry_run", bool, values["dry_run"])
    keep = not is_dry or Path(run.data.cache_dir).is_dir()
    executor = _executor(values["executor"])
    resolved: Callable[[RunConfig], RunConfig] = resolve
    runs_dir = Path(checked("runs_dir", str, values["runs_dir"]))
    here = MachineClock(runs_dir, keep=keep)
    speed: Callable[[RunConfig], float | None] = here.images_per_second
    clock: Clock = here
    if isinstance(executor, SlurmConfig):
        if wanted.equal == "seconds":
            raise UsageError("sweep.equal=seconds is timed on the launching machine, and SLURM's nodes are others")
        resolved = partial(resolve, available=executor.device)
        speed = clock = unknown_time
    study, base = wanted.apply(STUDIES[wanted.slug]), resolved(run)
    cells_of = partial(expand, study, arms=wanted.arms, seeds=wanted.seeds, images_per_second=speed)
    request = Request(
        study=study,
        cells=cells_of(base),
        arguments=tuple(arguments),
    )
    _check_runs(request, executor)
    few = partial(cells_of, seeds=wanted.seeds[:1])
    _check_effect(typed, run, recipe, resolved(recipe), lambda changed: few(resolved(changed)))
    _check_metric(study, base)
    plan = Plan(request.folder, request.cells, runs_dir)
    if not is_dry:
        executor.num_workers([cell.config for cell in plan.cells])  # refuses what this machine has no room for
    return Launch(
        request=request,
        plan=plan,
        executor=executor,
        limits=limits,
        clock=clock,
        reports_dir=Path(checked("reports_dir", str, values["reports_dir"])),
        cache_dir=Path(base.data.cache_dir),
        is_dry=is_dry,
    )


def _executor(values: Mapping[str, Any]) -> LocalConfig | SlurmConfig:
    found: LocalConfig | SlurmConfig = checked(
        "executor", SlurmConfig if values["cluster"] == "slurm" else LocalConfig, values
    )
    return found


def _texts(arguments: Sequence[str], key: str) -> list[str]:
    return [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{key}=")]


def _composed(arguments: Sequence[str]) -> dict[str, Any]:
    for argument in arguments:
        key = argument.partition("=")[0]
        if key.startswith(PYTHON_KEYS):
            slugs = [slug for slug in _texts(arguments, "sweep") if slug in STUDIES] or ["NAME"]
            raise UsageError(f"{key} is not set on a command line: arms are Python, in ablations/{slugs[0]}.py")
    return compose(
        arguments,
        defaults={"executor": "local", "sweep": next(iter(STUDIES))},
        values={"dry_run": False, "runs_dir": "runs", "reports_dir": "reports"},
        groups={"sweep": {slug: dataclasses.asdict(study_overrides(study)) for slug, study in STUDIES.items()}},
        conf_dir=CONF_DIR,
    )


def _study_overrides(values: Mapping[str, Any]) -> StudyOverrides:
    if values["slug"] not in STUDIES:
        raise unknown("sweep", str(values["slug"]), STUDIES)
    try:
        return TypeAdapter(StudyOverrides).validate_python(values)
    except ValidationError as error:
        raise UsageError(f"sweep.{explain(error)}") from error


def _check_change(typed: Sequence[str], run: RunConfig, wanted: StudyOverrides, recipe: RunConfig) -> None:
    """Refuse values that the recipe or the study has anyway: whoever types one believes that it does something.

    Raises:
        UsageError: naming the first.
    """
    own = study_overrides(STUDIES[wanted.slug])
    for argument in typed:
        key = argument.partition("=")[0]
        part, _, name = key.partition(".")
        if key == "seed":
            raise UsageError(f"{argument} changes nothing: sweep.seeds names the seeds")
        if part in RUN_KEYS and key != "scale" and value_at(run, key) == value_at(recipe, key):
            raise UsageError(f"{argument} changes nothing: scale={run.scale} has that already")
        if part == "sweep" and name and _at(wanted, name) == _at(own, name):
            raise UsageError(f"{argument} changes nothing: sweep {wanted.slug} has that already")


def _at(asked_for: StudyOverrides, path: str) -> Any:
    """The value that ``sweep.<path>`` names."""
    name, *rest = path.split(".", 1)
    value = getattr(asked_for, name)
    return value[rest[0]] if rest else value


def _check_runs(request: Request, executor: LocalConfig | SlurmConfig) -> None:
    """Refuse arms that their objective cannot have, or that no worker could do."""
    from aimv2.objectives import objective

    arms = {cell.arm: cell.config for cell in request.cells}
    executor.check(list(arms.values()))
    for arm, config in arms.items():
        try:
            objective(config.objective.name).check(config)
        except UsageError as error:
            raise UsageError(f"arm {arm!r} cannot exist: {error}") from error


def _check_effect(
    typed: Sequence[str],
    run: RunConfig,
    recipe: RunConfig,
    settled: RunConfig,
    cells_of: Callable[[RunConfig], list[Cell]],
) -> None:
    """Refuse overrides that every arm replaces by its own value; they would be lost without a word.

    Each is left out by itself, and all of a part together, for one alone may be what another needs.

    Args:
        settled: the recipe with what ``auto`` comes to.
        cells_of: the study's runs from its base run.
    """
    said = {key: text for text in typed if (key := text.partition("=")[0]).split(".")[0] in RUN_KEYS}
    said.pop("scale", None)
    parts = [[key for key in said if key.split(".")[0] == part] for part in {key.split(".")[0]: None for key in said}]
    cells = cells_of(run)
    for keys in [[key] for key in said] + [part for part in parts if len(part) > 1]:
        try:
            others = cells_of(replaced(run, {key: value_at(recipe, key) for key in keys}))
        except ValueError:
            continue  # without them the run or an arm could not be, so they matter
        if others == cells:
            what, own = " ".join(said[key] for key in keys), keys[0] if len(keys) == 1 else keys[0].split(".")[0]
            is_auto = all(value_at(run, key) == value_at(settled, key) for key in keys)
            why = "left at auto it comes to that" if is_auto else f"every arm of the sweep sets its own {own}"
            raise UsageError(f"{what} changes nothing: {why}")


def _check_metric(study: Study, base: RunConfig) -> None:
    """Refuse a base run that cannot report what the study compares."""
    from aimv2.evaluation.metrics import metric_names, not_applicable

    if study.primary_metric not in (known := metric_names(base)):
        raise unknown("sweep.primary_metric", study.primary_metric, known)
    for claim, seen in study.claims.items():
        for metric in (name for one in seen for name in (one.metric, one.than_metric)):
            if metric not in (possible := [*known, STEP_TIME]):
                raise unknown(f"metric of sweep.claims.{claim}", metric, possible)
    absent = not_applicable(base)
    if study.primary_metric in absent:
        reason = absent[study.primary_metric].evaluation
        raise UsageError(f"sweep {study.slug!r} compares {study.primary_metric}, which is {reason}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
