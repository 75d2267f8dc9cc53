"""Read and check the command line of ``sweeps/launch.py``: words become values once, and values a request."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pydantic.dataclasses

from aimv2.ablations.catalogue import FILES, STUDIES
from aimv2.ablations.expand import Cell, adapted, check_arms, check_effect, check_metrics, expand
from aimv2.ablations.ladder import base_of, nearest_ladder, needs, typed_value, unmeasured
from aimv2.ablations.request import Request
from aimv2.ablations.studies.sensitivity import SAMPLES, SENSITIVITY
from aimv2.ablations.study import Study, StudyOverrides, confirmation, overrides_from, study_overrides
from aimv2.base import plugins
from aimv2.base.errors import UsageError, require, unknown
from aimv2.config.arguments import as_typed, defaults_of, options_of
from aimv2.config.data_config import CHECKED
from aimv2.config.program import KIND, Program, differences, replaced, value_at
from aimv2.config.run_config import RunConfig
from aimv2.config.signature import is_name
from aimv2.definitions.programs import absent_metrics, check_values, with_metrics
from aimv2.request.compose import base_run, compose, run_config
from aimv2.run.command import split_limits
from aimv2.run.price import Clock, Limit
from aimv2.run.programs import resolved as resolved_on
from aimv2.run.times import RecordedClock, calibrate
from aimv2.sweeps.executors.base import Executor, chosen_executor, executor_of, executor_values
from aimv2.sweeps.plan import Plan
from aimv2.sweeps.search.space import NONE, Search, search_config, search_values

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
# Of a launch with sensitivity=auto:
OF_STUDY = ("sweep", "search", "sensitivity")  # the first parts of arguments that say what is studied
OF_BOTH = "sweep.allow_mixed_code"  # holds for the sensitivity study too
FILLED_IN = ("data.fingerprint", "start.fingerprint", "plugins.")  # starts of paths that cannot be typed


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class LaunchOptions:
    """The keys of a launch itself, which its usage describes too (``sweeps/launch.py``).

    Attributes:
        dry_run: only print the plan and its price.
        price: False times no steps for ``dry_run=`` or ``limit=``; times that were measured before are used.
        sensitivity: ``auto`` first measures what the metrics of the study's claims see on this base run, if that is not
            known: both are one launch, with one price.
        runs_dir: folder of the runs.
        reports_dir: folder of the reports.
    """

    dry_run: bool = False
    price: bool = True
    sensitivity: Literal["auto"] | None = None
    runs_dir: str = "runs"
    reports_dir: str = "reports"


@dataclass(frozen=True)
class LaunchRequest:
    """A checked command line."""

    request: Request  # of a search, the runs of the baseline that confirm its winner
    search: Search | None
    sensitivity: Request | None  # the study that measures what the verdicts of the request need, if it adds one
    plan: Plan  # the runs of both
    note: str  # what ``sensitivity=auto`` comes to, in a sentence; empty without it
    executor: Executor
    limits: list[Limit]
    clock: Clock
    reports_dir: Path
    options: LaunchOptions


def parse(arguments: Sequence[str]) -> LaunchRequest:
    """Compose and check the arguments; a UsageError if one names something that does not exist, an arm cannot run, or
    an override would be lost."""
    words, limits = split_limits(arguments)
    typed = _by_key(words)
    about_data = tuple(word for word in words if word.startswith(DATA_WORDS))
    study = STUDIES[typed["sweep"].removeprefix("sweep=")]
    base_values, scale = _values_of(study), {} if study.base else {"scale": study.scale}
    fitted = adapted(study, study.base or _run_on(about_data, study.scale))
    values = compose(
        words,
        defaults={**scale, "executor": "local", "sweep": study.slug, "search": NONE},
        values=defaults_of(LaunchOptions) | base_values,
        has_run=study.base is None,
        groups={
            "executor": executor_values(chosen_executor(words)),
            "sweep": {study.slug: dataclasses.asdict(study_overrides(fitted))},
            "search": search_values(),
        },
    )
    executor, options = executor_of(chosen_executor(words), values["executor"]), options_of(LaunchOptions, values)
    values["dry_run"] = options.dry_run
    if not options.dry_run:
        require("torch", as_typed("sweep"))
    overrides, reports_dir = overrides_from(values["sweep"]), Path(options.reports_dir)
    request, base = _requested(tuple(arguments), typed, fitted, overrides, values, executor)
    if not options.dry_run:
        executor.num_workers([cell.config for cell in request.cells])  # refuses runs that do not fit this machine
    search, sensitivity, note = None, None, ""
    if values["search"]:
        request, search = _searched(request, base, overrides, values)
    if options.sensitivity:
        sensitivity, note = _sensitivity(request, typed, base, reports_dir)
    if names := dict.fromkeys(plugin.name for plugin in plugins.loaded() if plugin.id in request.plugins):
        request = replace(request, arguments=(f"plugins=[{','.join(names)}]", *request.arguments))
    requests = (request,) if sensitivity is None else (sensitivity, request)
    cells = [cell for request in requests for cell in request.cells]
    return LaunchRequest(
        request=request,
        search=search,
        sensitivity=sensitivity,
        plan=Plan(request.folder, cells, Path(options.runs_dir), requests),
        note=note,
        executor=executor,
        limits=limits,
        clock=_clock(executor, options, is_limited=bool(limits)),
        reports_dir=reports_dir,
        options=options,
    )


def _by_key(words: Sequence[str]) -> dict[str, str]:
    """Return the words by their keys; refuse those that Hydra would report worse."""
    typed = {word.partition("=")[0]: word for word in words}
    if "=" not in typed.get("sweep", ""):
        if meant := next((word for word in words if word in STUDIES), None):
            raise UsageError(f"no sweep is named; did you mean sweep={meant}?")
        raise UsageError(f"no sweep is named; type sweep=NAME. Allowed: {', '.join(STUDIES)}.")
    slug = typed["sweep"].removeprefix("sweep=")
    if "," in slug:
        launches = " and ".join(f"{as_typed('sweep')} sweep={name}" for name in slug.strip("[]").split(","))
        raise UsageError(f"a launch is of one study; type {launches}")
    if slug not in STUDIES:
        raise unknown("sweep", slug, STUDIES)
    for key, word in typed.items():
        if key.startswith("search.") and "search" not in typed:
            raise UsageError(f"{key} is a key of a search; type search=optuna too")
        if key.startswith(PYTHON_KEYS):
            owner = STUDIES.plugin_of(slug)
            file = f"ablations/studies/{FILES[slug]}.py" if owner is None else owner.name
            raise UsageError(f"{key} is not set on a command line but in Python, in {file}")
        if key in CONFUSED_KEYS:
            raise UsageError(f"cannot use {word!r} in a sweep: {CONFUSED_KEYS[key]}")
    return typed


def _values_of(study: Study) -> dict[str, Any]:
    """Return the values of a base run of another model, which are keys of the command line; none of AIMv2's."""
    if study.base is None:
        return {}
    if not study.base.kind:
        kind = type(study.base).__name__
        raise UsageError(f"sweep={study.slug}: {kind} was not added; write @program(Definition(…)) above the class")
    check_values(study.base)
    values = {key: value for key, value in study.base.to_dict().items() if key not in (KIND, "seed")}
    if taken := values.keys() & {"sweep", "search", "executor", "limit", "code", "debug", *defaults_of(LaunchOptions)}:
        raise UsageError(f"program {study.base.kind!r}: {', '.join(sorted(taken))} is a key of launches; rename it")
    return values


@lru_cache(maxsize=16)
def _run_on(words: tuple[str, ...], scale: str) -> Program:
    return run_config(compose(words, defaults={"scale": scale}))


def _clock(executor: Executor, options: LaunchOptions, *, is_limited: bool) -> Clock:
    """Return the clock of this machine, or of those where workers run, which nothing measures from here.

    A calibration run takes seconds, so only where the time is requested.
    """
    if executor.speed_unknown:
        return RecordedClock(measure=None, is_here=False)
    is_measured = options.price and (options.dry_run or is_limited) and find_spec("torch") is not None
    return RecordedClock(measure=calibrate if is_measured else None)


def _requested(
    arguments: tuple[str, ...],
    typed: Mapping[str, str],
    fitted: Study,
    overrides: StudyOverrides,
    values: Mapping[str, Any],
    executor: Executor,
) -> tuple[Request, Program]:
    """Expand the study and check its cells; return the request and its base run."""
    study = overrides.apply(fitted)
    run: Program
    recipe: Program
    if study.base is None:
        run, recipe = run_config(values), base_run(values)
    else:
        run, recipe = replaced(study.base, {key: values[key] for key in _values_of(study)}), study.base
    if study.adapts and value_at(run, "start.weights") is None:
        raise UsageError(
            f"sweep={study.slug} starts from a finished run, such as one of: {as_typed('train')}; type"
            " start.weights=runs/NAME"
        )

    def resolved(config: Program) -> Program:
        return resolved_on(config, executor.device, needs_data=not values["dry_run"])

    def cells_of(base: Program, seeds: Sequence[int] = overrides.seeds[:1]) -> list[Cell]:
        return expand(study, base, arms=overrides.arms, seeds=seeds)

    base = resolved(run)
    cells = cells_of(base, overrides.seeds)
    executor.check(list({cell.arm: cell.config for cell in cells}.values()))
    check_arms(cells)
    check_effect(typed, run, recipe, resolved, cells_of)
    request = Request(study=study, cells=cells, arguments=arguments)
    check_metrics(study, base)
    return request, base


def _sensitivity(
    request: Request, typed: Mapping[str, str], base: Program, reports_dir: Path
) -> tuple[Request | None, str]:
    """Return the sensitivity study that ``sensitivity=auto`` adds to a launch, and the sentence that says so."""
    if request.study.base is not None:
        raise UsageError(f"sensitivity=auto is for runs of AIMv2, and this study has runs of {request.study.base.kind}")
    if request.study.slug == SENSITIVITY.slug:
        raise UsageError(f"sensitivity=auto has no effect on sweep={SENSITIVITY.slug}, which measures it; leave it out")
    ladder = nearest_ladder(reports_dir, request.baseline)
    if not (lacking := unmeasured(request.study, request.baseline, ladder, absent_metrics(request.baseline))):
        return None, "sensitivity=auto adds nothing: the sensitivity of this base run was measured"
    try:
        beside = parse(_sensitivity_arguments(request, typed, base)).request
    except UsageError as error:
        raise UsageError(f"sensitivity=auto is not possible here: {error}") from error
    same = base_of(beside.baseline) == base_of(request.baseline)
    assert same, f"sweep={request.study.slug}: its baseline has values that cannot be typed"
    return beside, f"{lacking}, so sweep={SENSITIVITY.slug} is done beside the study"


def _sensitivity_arguments(request: Request, words: Mapping[str, str], base: Program) -> list[str]:
    """Return the arguments that measure what a study needs on the run of its baseline, with the seeds of the study.

    The report is named after that run, so that it replaces no other. ``words`` are the arguments of the study's launch,
    by key; ``base`` is the run that its arms change.
    """
    seeds = list(dict.fromkeys(cell.seed for cell in request.cells))
    if len(seeds) < 2:
        raise UsageError(f"it takes two seeds or more, since one has no interval, and sweep.seeds={seeds}")
    baseline = request.baseline
    rungs = {SENSITIVITY.baseline, *SAMPLES}.union(*needs(request.study, baseline, absent_metrics(baseline)).values())
    arms = [arm for arm in SENSITIVITY.arms if arm in rungs]
    changed = {
        path: f"{path}={typed_value(value)}"
        for path, value in differences(baseline.with_seed(base.seed), base).items()
        if not path.startswith(FILLED_IN)
    }
    kept = [
        word
        for key, word in words.items()
        if (key == OF_BOTH or key.partition(".")[0] not in OF_STUDY) and key not in changed
    ]
    return [
        f"sweep={SENSITIVITY.slug}",
        f"sweep.arms={typed_value(arms)}",
        f"sweep.seeds={typed_value(seeds)}",
        f"sweep.suffix={baseline.with_seed(0).name.rpartition('-')[2]}",
        *([] if "scale" in words or is_name(value_at(base, "start.fingerprint")) else [f"scale={request.study.scale}"]),
        *kept,
        *changed.values(),
    ]


def _searched(
    request: Request, base: Program, overrides: StudyOverrides, values: Mapping[str, Any]
) -> tuple[Request, Search]:
    """Turn the request of a study into a search over its factors, and the runs of the baseline that confirm it."""
    study = request.study
    if overrides.arms != tuple(study.arms):
        raise UsageError(f"search=optuna searches all factors of sweep={study.slug}; leave out sweep.arms=")
    config = search_config(values["search"])
    confirmed = confirmation(study, {study.baseline: study.arms[study.baseline]})
    cells = [cell for cell in request.cells if cell.arm == study.baseline]
    request = replace(request, study=confirmed, cells=cells)
    measured = with_metrics(base, (config.metric or study.primary_metric,))
    if not isinstance(measured, RunConfig):
        raise UsageError(f"search=optuna searches runs of AIMv2, and this study has runs of {measured.kind}")
    search = Search(request.folder, study, measured, config, tuple(overrides.seeds))
    search.check()
    return request, search
