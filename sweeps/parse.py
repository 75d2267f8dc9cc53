"""Read and check the command line of ``sweeps/launch.py``."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ablations.adapt import adapted
from ablations.catalogue import STUDIES
from ablations.expand import Cell, expand
from ablations.expectations import STEP_TIME
from ablations.overrides import StudyOverrides, study_overrides
from ablations.request import Request
from ablations.study import Study, confirmation
from aimv2.base.errors import UsageError, unknown
from aimv2.config.arguments import checked
from aimv2.config.paths import replaced, value_at
from aimv2.config.run_config import RunConfig
from aimv2.config.serialization import explain, flatten
from aimv2.request.compose import RUN_KEYS, base_run, compose, run_config
from aimv2.request.resolve import resolve
from aimv2.spec.metrics import metric_names, not_applicable
from aimv2.spec.objectives import objective
from sweeps.executors.base import Executor
from sweeps.executors.local import CONF_DIR, LocalExecutor
from sweeps.executors.slurm import SlurmExecutor
from sweeps.plan import Plan
from sweeps.pricing.clock import MachineClock, calibrate
from sweeps.pricing.price import Clock, Limit, read_limits
from sweeps.search.config import NONE, SEARCHES, SearchConfig
from sweeps.search.space import Search

CONFUSED_KEYS = {
    "budget": "limit=2h limits the price of a plan, budget.samples=4096 sets its training",
    "seed": "it has no effect; type sweep.seeds=[1]",
    "sweep.is_search": "search=optuna makes it a search",
}
# Arguments that say which data a study is adapted to.
DATA_WORDS = (
    *("scale=", "start.weights=", "recipe=", "mixture="),
    *("data.sources=", "data.weights=", "data.dense_fraction", "evaluation.sets="),
)
# Parts of a study that are Python and have no key.
PYTHON_KEYS = ("sweep.slug", "sweep.design", "sweep.factors", "sweep.levels", "sweep.arms.")


@dataclass(frozen=True)
class ParsedRequest:
    """A checked command line.

    Attributes:
        request: of a search, the runs of the baseline that confirm its winner.
        search: None without ``search=``.
        notes: sentences on overrides that repeat a default.
    """

    request: Request
    search: Search | None
    plan: Plan
    executor: Executor
    limits: list[Limit]
    clock: Clock
    reports_dir: Path
    is_dry_run: bool
    is_detached: bool
    notes: list[str]


def parse(arguments: Sequence[str]) -> ParsedRequest:
    """Compose and check the arguments.

    Raises:
        UsageError: an argument names something that does not exist, an arm cannot run, or an override would be lost.
    """
    typed_limits = [argument for argument in arguments if argument.startswith("limit=")]
    limits = [limit for text in typed_limits for limit in read_limits(text.removeprefix("limit="))]
    words = [argument for argument in arguments if argument not in typed_limits]
    own, values = _composed(words)
    run, overrides = run_config(values), _study_overrides(values["sweep"])
    runs_dir = Path(checked("runs_dir", str, values["runs_dir"]))
    is_dry_run = checked("dry_run", bool, values["dry_run"])
    executor_class = SlurmExecutor if values["executor"]["cluster"] == "slurm" else LocalExecutor
    executor: Executor = checked("executor", executor_class, values["executor"])
    keep = not is_dry_run or Path(run.data.cache_dir).is_dir()  # a dry run makes no folder
    # A calibration run takes a while, so only where the time decides something or is requested.
    is_measured = is_dry_run or bool(limits) or overrides.equal == "seconds"
    clock = MachineClock(runs_dir, keep=keep, measure=calibrate if is_measured else None)
    if executor.speed_unknown and overrides.equal == "seconds":
        raise UsageError(f"sweep.equal=seconds needs the workers' speed, but {executor.speed_unknown}")
    study = overrides.apply(own)

    def resolved(config: RunConfig) -> RunConfig:
        return resolve(config, available=executor.device)

    def cells_of(base: RunConfig, seeds: Sequence[int]) -> list[Cell]:
        return expand(study, base, arms=overrides.arms, seeds=seeds, images_per_second=clock.images_per_second)

    if study.adapts and run.start.weights is None:
        raise UsageError(
            f"sweep={study.slug} starts from a finished run, such as one of: python -m aimv2 train; type"
            " start.weights=runs/NAME"
        )
    base = resolved(run)
    cells, search = cells_of(base, overrides.seeds), None
    request = Request(study=study, cells=cells, arguments=tuple(arguments))
    _check_runs(request, executor)
    typed = {word.partition("=")[0]: word for word in words}
    notes = _check_effect(
        typed, run, base_run(values), resolved, lambda changed: cells_of(changed, overrides.seeds[:1])
    )
    _check_metric(study, base)
    if values["search"]:
        request, search = _search(request, base, values["search"], overrides)
    plan = Plan(request.folder, request.cells, runs_dir)
    if not is_dry_run:
        executor.num_workers([cell.config for cell in cells])  # refuses runs that do not fit this machine
    return ParsedRequest(
        request=request,
        search=search,
        plan=plan,
        executor=executor,
        limits=limits,
        clock=(lambda config: None) if executor.speed_unknown else clock,
        reports_dir=Path(checked("reports_dir", str, values["reports_dir"])),
        is_dry_run=is_dry_run,
        is_detached=checked("detach", bool, values["detach"]),
        notes=[*notes, *_repeated_study_values(typed, own, overrides)],
    )


def _search(
    request: Request, base: RunConfig, values: Mapping[str, Any], overrides: StudyOverrides
) -> tuple[Request, Search]:
    """Turn the request of a study into a search over its factors, and the runs of the baseline that confirm it."""
    study = request.study
    if overrides.arms != tuple(study.arms):
        raise UsageError(f"search=optuna searches all factors of sweep={study.slug}; leave out sweep.arms=")
    try:
        config = TypeAdapter(SearchConfig).validate_python(values)
    except ValidationError as error:
        raise UsageError(f"search.{explain(error)}") from error
    confirmed = confirmation(study, {study.baseline: study.arms[study.baseline]})
    cells = [cell for cell in request.cells if cell.arm == study.baseline]
    request = replace(request, study=confirmed, cells=cells)
    search = Search(request.folder, study, base, config, tuple(overrides.seeds))
    search.check()
    return request, search


def _composed(arguments: Sequence[str]) -> tuple[Study, dict[str, Any]]:
    """Refuse keys that Hydra would report worse, and compose the rest; return it with the study on the run's data."""
    slugs = [argument.removeprefix("sweep=") for argument in arguments if argument.startswith("sweep=")]
    if not slugs:
        if meant := next((word for word in arguments if word in STUDIES), None):
            raise UsageError(f"no sweep is named; did you mean sweep={meant}?")
        raise UsageError(f"no sweep is named; type sweep=NAME. Allowed: {', '.join(STUDIES)}.")
    if wrong := [slug for slug in slugs if slug not in STUDIES]:
        raise unknown("sweep", wrong[0], STUDIES)
    is_search = any(argument.startswith("search=") for argument in arguments)
    for argument in arguments:
        key = argument.partition("=")[0]
        if key.startswith("search.") and not is_search:
            raise UsageError(f"{key} is a key of a search; type search=optuna too")
        if key.startswith(PYTHON_KEYS):
            raise UsageError(f"{key} is not set on a command line but in Python, in ablations/studies/{slugs[0]}.py")
        if key in CONFUSED_KEYS:
            raise UsageError(f"cannot use {argument!r} in a sweep: {CONFUSED_KEYS[key]}")
    study = adapted(STUDIES[slugs[0]], _run_on(tuple(word for word in arguments if word.startswith(DATA_WORDS))))
    values = compose(
        arguments,
        defaults={"executor": "local", "sweep": slugs[0], "search": NONE},
        values={"dry_run": False, "detach": False, "runs_dir": "runs", "reports_dir": "reports"},
        groups={"sweep": {slugs[0]: dataclasses.asdict(study_overrides(study))}, "search": SEARCHES},
        conf_dir=CONF_DIR,
    )
    return study, values


@lru_cache(maxsize=16)
def _run_on(words: tuple[str, ...]) -> RunConfig:
    """Return a run on the data that these words name."""
    return run_config(compose(words, defaults={}))


def _study_overrides(values: Mapping[str, Any]) -> StudyOverrides:
    try:
        return TypeAdapter(StudyOverrides).validate_python(values)
    except ValidationError as error:
        raise UsageError(f"sweep.{explain(error)}") from error


def _repeated_study_values(typed: Mapping[str, str], study: Study, overrides: StudyOverrides) -> list[str]:
    """Return a note on each override that repeats a value of the study."""
    own, now = (flatten(dataclasses.asdict(one)) for one in (study_overrides(study), overrides))
    names = {key.removeprefix("sweep."): word for key, word in typed.items() if key.startswith("sweep.")}
    return [
        f"{word} is the default of sweep={overrides.slug}" for name, word in names.items() if now[name] == own[name]
    ]


def _check_runs(request: Request, executor: Executor) -> None:
    """Refuse arms that their objective or the executor cannot do."""
    arms = {cell.arm: cell.config for cell in request.cells}
    executor.check(list(arms.values()))
    for arm, config in arms.items():
        try:
            objective(config.objective.name).check(config)
        except UsageError as error:
            raise UsageError(f"arm {arm!r} cannot exist: {error}") from error


def _check_effect(
    typed: Mapping[str, str],
    run: RunConfig,
    recipe: RunConfig,
    resolved: Callable[[RunConfig], RunConfig],
    cells_of: Callable[[RunConfig], list[Cell]],
) -> list[str]:
    """Refuse overrides that every arm replaces by its own value: they would be lost.

    Each override is left out by itself, and all of a part together, since another may need it.

    Args:
        typed: the arguments, by key.
        recipe: the run before they have changed it.
        resolved: resolves a base run.
        cells_of: returns the study's cells, given its resolved base run.

    Returns:
        A note on each override that repeats a default of the scale.
    """
    base = resolved(run)
    notes: list[str] = []
    by_part: dict[str, list[str]] = {}
    for key, word in typed.items():
        if (part := key.partition(".")[0]) not in RUN_KEYS or key in ("scale", "start.weights"):
            continue
        with contextlib.suppress(ValueError):  # without it the run is impossible, so it has an effect
            if resolved(replaced(run, {key: value_at(recipe, key)})) == base:
                own = f"scale={run.scale}" if run.start.weights is None else f"a start from {run.start.weights}"
                notes.append(f"{word} is the default of {own}")
                continue
        by_part.setdefault(part, []).append(key)
    cells, single = cells_of(base), [[key] for keys in by_part.values() for key in keys]
    for keys in [*single, *by_part.values()]:
        try:
            others = cells_of(resolved(replaced(run, {key: value_at(recipe, key) for key in keys})))
        except ValueError:
            continue  # without them the run or an arm is impossible, so they have an effect
        if others == cells:
            text, own = " ".join(typed[key] for key in keys), keys[0] if len(keys) == 1 else keys[0].partition(".")[0]
            raise UsageError(f"{text} has no effect: every arm of the sweep sets its own {own}")
    return notes


def _check_metric(study: Study, base: RunConfig) -> None:
    """Refuse a base run that does not report the metrics that the study compares."""
    if study.primary_metric not in (known := metric_names(base)):
        raise unknown("sweep.primary_metric", study.primary_metric, known)
    for claim, expectations in study.claims.items():
        for metric in (name for one in expectations for name in one.metrics):
            if metric not in (possible := [*known, STEP_TIME]):
                raise unknown(f"metric of sweep.claims.{claim}", metric, possible)
    absent = not_applicable(objective(base.objective.name), base)
    if study.primary_metric in absent:
        reason = absent[study.primary_metric].evaluation
        raise UsageError(f"sweep {study.slug!r} compares {study.primary_metric}, which is {reason}")
