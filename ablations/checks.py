"""Checks of the cells of a study: what would not run, what is not measured, and what an override would not change."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence

from aimv2.ablations.expand import Cell
from aimv2.ablations.study import Study
from aimv2.base.errors import UsageError, unknown
from aimv2.config.paths import replaced, value_at
from aimv2.config.program import Program
from aimv2.spec.metrics import recorded_metrics
from aimv2.spec.programs import absent_metrics, check, metrics_of


def check_arms(cells: Sequence[Cell]) -> None:
    """Refuse arms that their objective cannot train.

    Raises:
        UsageError: naming the arm.
    """
    for arm, config in {cell.arm: cell.config for cell in cells}.items():
        try:
            check(config)
        except UsageError as error:
            raise UsageError(f"arm {arm!r} cannot exist: {error}") from error


def check_metrics(study: Study, base: Program) -> None:
    """Refuse a base run that does not report the metrics that the study compares.

    Raises:
        UsageError: naming the metric.
    """
    known = [*metrics_of(base), *recorded_metrics()]
    if study.primary_metric not in known:
        raise unknown("sweep.primary_metric", study.primary_metric, known)
    for claim, expectations in study.claims.items():
        for metric in (name for one in expectations for name in one.metrics):
            if metric not in known:
                raise unknown(f"metric of sweep.claims.{claim}", metric, known)
    if reason := absent_metrics(base).get(study.primary_metric):
        raise UsageError(f"sweep {study.slug!r} compares {study.primary_metric}, which is {reason}")


def check_effect(
    typed: Mapping[str, str],
    run: Program,
    recipe: Program,
    resolved: Callable[[Program], Program],
    cells_of: Callable[[Program], list[Cell]],
) -> None:
    """Refuse overrides that every arm replaces by its own value: they would be lost.

    Each override is left out alone, and all of a part together, since another may need it. One that repeats a default
    of the scale is no mistake.

    Args:
        typed: the arguments, by key.
        run: the run with them.
        recipe: the run before they have changed it.
        resolved: resolves a base run.
        cells_of: returns the study's cells, given its resolved base run.

    Raises:
        UsageError: naming the overrides.
    """
    base, own_keys = resolved(run), {field.name for field in dataclasses.fields(run)}
    by_part: dict[str, list[str]] = {}
    for key in typed:
        if (part := key.partition(".")[0]) not in own_keys or key in ("scale", "start.weights"):
            continue
        with contextlib.suppress(ValueError):  # without it the run is impossible, so it has an effect
            if resolved(replaced(run, {key: value_at(recipe, key)})) == base:
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
