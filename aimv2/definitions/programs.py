"""What studies ask of a run, of AIMv2 or of another model, and how a plug-in adds such a model.

Nothing here imports torch.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from aimv2.base.errors import UsageError, short
from aimv2.base.plugins import check_loaded
from aimv2.config.prefix import LAWS, Frozen
from aimv2.config.program import PROGRAMS, Program, Run, replaced
from aimv2.config.run_config import RunConfig
from aimv2.cost import train_flops
from aimv2.definitions.metrics import FINAL as OURS
from aimv2.definitions.metrics import METRICS, OTHERS, Definition, metric_names, not_applicable
from aimv2.definitions.objectives import OBJECTIVES, objective

Kind = TypeVar("Kind", bound=type[Program])


def program(*metrics: Definition) -> Callable[[Kind], Kind]:
    """Add the class below as another model, under its name in lower case; ``add_program`` says what is refused."""
    return lambda found: add_program(getattr(found, "__name__", "").lower(), found, *metrics)


def add_program(name: str, program: Kind, *metrics: Definition) -> Kind:
    """Add another model, whose runs have these metrics, and return it."""
    if not (isinstance(program, type) and issubclass(program, Program) and "measure" in vars(program)):
        raise UsageError(f"program {name!r}: {short(program)} is not a subclass of Program with a measure()")
    if "__dataclass_params__" not in vars(program) or not program.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise UsageError(f"program {name!r}: {program.__name__} is not a frozen dataclass: @dataclass(frozen=True)")
    if not metrics:
        raise UsageError(f"program {name!r} has no metric; add Definition(NAME, UNIT, lower_is_better=…)")
    for metric in metrics:
        if metric.name in {one.name for one in OURS} or OTHERS.get(metric.name, metric) != metric:
            raise UsageError(f"program {name!r}: the metric {metric.name!r} exists already, and is another one")
    program.kind, program.metrics = name, tuple(metric.name for metric in metrics)
    PROGRAMS.add(name, program)
    for metric in metrics:
        if metric.name not in OTHERS:
            OTHERS.add(metric.name, metric)
    return program


def check_values(base: Program) -> None:
    """Refuse a base run whose values cannot be compared."""
    values = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    if mutable := [name for name, value in values.items() if isinstance(value, list | dict | set)]:
        raise UsageError(f"program {base.kind!r}: {', '.join(mutable)} must be a tuple, not a list, dict or set")
    try:
        hash(base)
    except TypeError as error:
        raise UsageError(f"program {base.kind!r}: {error}; values must be tuples") from error


def check(run: Program) -> None:
    """Refuse values that cannot be executed."""
    if isinstance(run, RunConfig):
        objective(run.objective.name).check(run)
    else:
        run.check()


def with_metrics(run: Run, names: Iterable[str]) -> Run:
    """Return the run with more metrics of plug-ins, those that a study decides by; another model has its own."""
    if not isinstance(run, RunConfig):
        return run
    measured = dict.fromkeys([*run.evaluation.metrics, *(name for name in names if name in METRICS)])
    return replace(run, evaluation=replace(run.evaluation, metrics=tuple(measured)))


def with_shuffled_targets(run: Program) -> Program | None:
    """Return the positive control: captions are shuffled, or pixels if the objective reads no captions."""
    if not isinstance(run, RunConfig):
        return run.with_shuffled_targets()
    shuffled = "captions" if objective(run.objective.name).reads_captions else "pixels"
    return replaced(run, {f"data.{shuffled}": "shuffled"})


def metrics_of(run: Program) -> list[str]:
    """Return the names of all metrics that runs like this one can have."""
    return [*metric_names(run), *METRICS] if isinstance(run, RunConfig) else list(run.metrics)


def absent_metrics(run: Program) -> Mapping[str, str]:
    """Return the metrics that this run cannot have, each with the reason; a UsageError if its data cannot be read."""
    if not isinstance(run, RunConfig):
        return {}
    absent = not_applicable(objective(run.objective.name), run)
    return {name: metric.evaluation for name, metric in absent.items()}


def max_train_flops(run: RunConfig, samples: int) -> int:
    """Return an upper bound on training FLOPs, for which no caption is read: all captions have full length."""
    return train_flops(objective(run.objective.name).cost(run), samples, samples * run.model.max_text_tokens)


def flops_per_sample(run: Program) -> float:
    """Return the expected training FLOPs of a sample; only supervised tokens are projected to the vocabulary."""
    if not isinstance(run, RunConfig):
        return run.flops_per_sample()
    parts, num_samples, num_tokens = objective(run.objective.name).cost(run), 10_000, 0
    if any(part.per_token for part in parts):
        from aimv2.data.prepare import mean_supervised_tokens  # here, because other plans need no captions

        num_tokens = round(num_samples * mean_supervised_tokens(run))
    return train_flops(parts, num_samples, num_tokens) / num_samples


def with_plugins(run: Run) -> Run:
    """Return a run with the plug-in of each value that is one's (``RunConfig.plugins``), and with all parameters of its
    prefix-length distribution. A run of another model has its plug-in already."""
    if not isinstance(run, RunConfig):
        return run
    prefix = replace(run.prefix, parameters=Frozen(run.prefix.all_parameters()))
    owners = {
        "prefix.law": LAWS.plugin_of(prefix.law),
        "objective.name": OBJECTIVES.plugin_of(run.objective.name),
        **{f"evaluation.metrics.{name}": METRICS.plugin_of(name) for name in run.evaluation.metrics},
    }
    plugins = Frozen({path: owner.id for path, owner in owners.items() if owner is not None})
    return run if (plugins, prefix) == (run.plugins, run.prefix) else replace(run, prefix=prefix, plugins=plugins)


def check_plugins(config: RunConfig, name: str) -> None:
    """Refuse to execute a run with other plug-ins than it is named after."""
    check_loaded(config.plugins.values(), f"run {name}")
    if with_plugins(config) != config:
        raise UsageError(f"run {name} has values of plug-ins that its config does not name")
