"""Read and check the command line of ``sweeps/launch.py``."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ablations.catalogue import STUDIES
from ablations.expand import Cell, expand
from ablations.expectations import STEP_TIME
from ablations.overrides import StudyOverrides, study_overrides
from ablations.request import Request
from ablations.study import Study
from aimv2.config.arguments import checked
from aimv2.config.compose import RUN_KEYS, compose, run_config
from aimv2.config.paths import replaced, value_at
from aimv2.config.run_config import RunConfig, explain
from aimv2.config.scales import SCALES
from aimv2.errors import UsageError, unknown
from sweeps.executors.base import Executor
from sweeps.executors.local import CONF_DIR, LocalExecutor
from sweeps.executors.slurm import SlurmExecutor
from sweeps.plan import Plan
from sweeps.pricing.clock import MachineClock, unknown_time
from sweeps.pricing.price import Clock, Limit, read_limits

EXECUTORS: dict[str, type[LocalExecutor | SlurmExecutor]] = {
    "debug": LocalExecutor,
    "local": LocalExecutor,
    "slurm": SlurmExecutor,
}

# Parts of a study that are Python and have no key.
PYTHON_KEYS = ("sweep.design", "sweep.factors", "sweep.levels", "sweep.arms.")


@dataclass(frozen=True)
class ParsedRequest:
    """A checked command line.

    Attributes:
        notes: sentences on overrides that repeat a default.
    """

    request: Request
    plan: Plan
    executor: Executor
    limits: list[Limit]
    clock: Clock
    reports_dir: Path
    cache_dir: Path
    is_dry_run: bool
    notes: list[str]


def parse(arguments: Sequence[str]) -> ParsedRequest:
    """Compose and check the arguments.

    Raises:
        UsageError: an argument names something that does not exist, an arm cannot run, or an override would be lost.
    """
    from aimv2.config.resolve import resolve

    limits = [limit for text in _values_of(arguments, "limit") for limit in read_limits(text)]
    typed = [argument for argument in arguments if not argument.startswith("limit=")]
    values = _composed(typed)
    run, overrides = run_config(values), _study_overrides(values["sweep"])
    runs_dir = Path(checked("runs_dir", str, values["runs_dir"]))
    is_dry_run = checked("dry_run", bool, values["dry_run"])
    executor: Executor = checked("executor", EXECUTORS[values["executor"]["cluster"]], values["executor"])
    keep = not is_dry_run or Path(run.data.cache_dir).is_dir()  # a dry run makes no folder
    here = MachineClock(runs_dir, keep=keep)
    speed: Callable[[RunConfig], float | None] = here.images_per_second
    clock: Clock = here
    if executor.speed_unknown:
        if overrides.equal == "seconds":
            raise UsageError(f"sweep.equal=seconds needs the workers' speed, but {executor.speed_unknown}")
        speed = clock = unknown_time
    resolved: Callable[[RunConfig], RunConfig] = partial(resolve, available=executor.device)
    study, base = overrides.apply(STUDIES[overrides.slug]), resolved(run)
    cells_of = partial(expand, study, arms=overrides.arms, seeds=overrides.seeds, images_per_second=speed)
    request = Request(study=study, cells=cells_of(base), arguments=tuple(arguments))
    _check_runs(request, executor)
    notes = _repeated_defaults(typed, run, overrides, resolved)
    cells_of_one_seed = partial(cells_of, seeds=overrides.seeds[:1])
    _check_effect(_run_overrides(typed, notes), run, lambda changed: cells_of_one_seed(resolved(changed)))
    _check_metric(study, base)
    plan = Plan(request.folder, request.cells, runs_dir)
    if not is_dry_run:
        executor.num_workers([cell.config for cell in plan.cells])  # refuses runs that do not fit this machine
    return ParsedRequest(
        request=request,
        plan=plan,
        executor=executor,
        limits=limits,
        clock=clock,
        reports_dir=Path(checked("reports_dir", str, values["reports_dir"])),
        cache_dir=Path(base.data.cache_dir),
        is_dry_run=is_dry_run,
        notes=list(notes.values()),
    )


def _values_of(arguments: Sequence[str], key: str) -> list[str]:
    return [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{key}=")]


def _composed(arguments: Sequence[str]) -> dict[str, Any]:
    """Refuse keys that Hydra would report worse, and compose the rest."""
    slugs = _values_of(arguments, "sweep")
    if not slugs:
        raise UsageError(f"no sweep is named; type sweep=NAME. Allowed: {', '.join(STUDIES)}.")
    for argument in arguments:
        key = argument.partition("=")[0]
        if key.startswith(PYTHON_KEYS):
            study = next((slug for slug in slugs if slug in STUDIES), "NAME")
            raise UsageError(f"{key} is not set on a command line: arms are Python, in ablations/studies/{study}.py")
        if key == "budget":
            raise UsageError(
                f"cannot use {argument!r}: limit=2h limits the price of a plan, budget.samples=4096 sets its training"
            )
        if key == "seed":
            raise UsageError(f"{argument} has no effect in a sweep; type sweep.seeds=[{argument.partition('=')[2]}]")
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


def _run_overrides(typed: Sequence[str], notes: Mapping[str, str]) -> dict[str, str]:
    """Return the overrides of the run's values that are not a default, as typed, by key."""
    found = {argument.partition("=")[0]: argument for argument in typed if argument not in notes}
    return {key: text for key, text in found.items() if key.split(".")[0] in RUN_KEYS and key != "scale"}


def _repeated_defaults(
    typed: Sequence[str], run: RunConfig, overrides: StudyOverrides, resolved: Callable[[RunConfig], RunConfig]
) -> dict[str, str]:
    """Return a note on each override that repeats a default of the scale or the study, with ``auto`` resolved."""
    notes = {}
    recipe, own = SCALES[run.scale](), study_overrides(STUDIES[overrides.slug])
    for argument in typed:
        key = argument.partition("=")[0]
        part, _, name = key.partition(".")
        if part in RUN_KEYS and key != "scale":
            if value_at(run, key) == value_at(recipe, key):
                notes[argument] = f"{argument} is the default of scale={run.scale}"
            elif value_at(recipe, key) == "auto" and value_at(run, key) == value_at(
                resolved(replaced(run, {key: "auto"})), key
            ):
                notes[argument] = f"{argument} is the default: auto resolves to it"
        if part == "sweep" and name and _study_value(overrides, name) == _study_value(own, name):
            notes[argument] = f"{argument} is the default of sweep={overrides.slug}"
    return notes


def _study_value(overrides: StudyOverrides, path: str) -> Any:
    """Return the value of the key ``sweep.<path>``."""
    name, *rest = path.split(".", 1)
    value = getattr(overrides, name)
    return value[rest[0]] if rest else value


def _check_runs(request: Request, executor: Executor) -> None:
    """Refuse arms that their objective or the executor cannot do."""
    from aimv2.objectives import objective

    arms = {cell.arm: cell.config for cell in request.cells}
    executor.check(list(arms.values()))
    for arm, config in arms.items():
        try:
            objective(config.objective.name).check(config)
        except UsageError as error:
            raise UsageError(f"arm {arm!r} cannot exist: {error}") from error


def _check_effect(overrides: Mapping[str, str], run: RunConfig, cells_of: Callable[[RunConfig], list[Cell]]) -> None:
    """Refuse overrides that every arm replaces by its own value: they would be lost.

    Each override is left out by itself, and all of a part together, since another may need it.

    Args:
        overrides: as typed, by key; none is a default.
        cells_of: returns the study's cells, given its base run.
    """
    recipe, cells = SCALES[run.scale](), cells_of(run)
    by_part: dict[str, list[str]] = {}
    for key in overrides:
        by_part.setdefault(key.split(".")[0], []).append(key)
    for keys in [*([key] for key in overrides), *(keys for keys in by_part.values() if len(keys) > 1)]:
        try:
            others = cells_of(replaced(run, {key: value_at(recipe, key) for key in keys}))
        except ValueError:
            continue  # without them the run or an arm is impossible, so they have an effect
        if others == cells:
            text, own = " ".join(overrides[key] for key in keys), keys[0] if len(keys) == 1 else keys[0].split(".")[0]
            raise UsageError(f"{text} has no effect: every arm of the sweep sets its own {own}")


def _check_metric(study: Study, base: RunConfig) -> None:
    """Refuse a base run that does not report the metrics that the study compares."""
    from aimv2.evaluation.metrics import metric_names, not_applicable
    from aimv2.objectives import objective

    if study.primary_metric not in (known := metric_names(base)):
        raise unknown("sweep.primary_metric", study.primary_metric, known)
    for claim, expectations in study.claims.items():
        for metric in (name for one in expectations for name in (one.metric, one.than_metric)):
            if metric not in (possible := [*known, STEP_TIME]):
                raise unknown(f"metric of sweep.claims.{claim}", metric, possible)
    absent = not_applicable(objective(base.objective.name), base)
    if study.primary_metric in absent:
        reason = absent[study.primary_metric].evaluation
        raise UsageError(f"sweep {study.slug!r} compares {study.primary_metric}, which is {reason}")
