"""What of the sensitivity a study needs and nothing has measured: what ``sensitivity=auto`` adds to its launch."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.studies.sensitivity import OTHER_SIZES, RUNGS, SAMPLES, STUDY
from aimv2.ablations.study import Study
from aimv2.analysis.judgement.sensitivity import Ladder, applies, base_of, differences, floor_of
from aimv2.config.paths import value_at
from aimv2.config.program import Program
from aimv2.spec.programs import absent_metrics

AUTO = "sensitivity=auto"  # the argument of a launch that measures it
MAX_NAMED = 3  # differing values that a sentence names


def needs(study: Study, config: Program, absent: Collection[str] = ()) -> dict[str, set[str]]:
    """Return the rungs that a sensitivity study must have for what a study concludes, by the metric that decides it.

    They are those of the kinds of the metric's claims, and those that every metric must order (``sensitivity_of``) but
    for the curve over samples. Rungs that cannot start from given weights are left out if the run does.

    Args:
        config: the baseline's run.
        absent: metrics that these runs do not have, which decide nothing.
    """
    found = {metric: set(floor_of(metric, value_at(config, "objective.name"))) for metric in study.deciding_metrics}
    for claim, expectations in study.claims.items():
        rungs = {rung for kind in CLAIMS[claim].kinds for rung in RUNGS[kind]}
        for metric in {name for one in expectations for name in one.metrics}:
            found[metric] |= {rung for rung in rungs if applies(metric, rung)}
    other_sizes = OTHER_SIZES if value_at(config, "start.weights") else ()
    return {metric: rungs.difference(other_sizes) for metric, rungs in found.items() if metric not in absent}


def unmeasured(study: Study, config: Program, nearest: Ladder | None, absent: Collection[str] = ()) -> str:
    """Return what of the sensitivity that a study needs was not measured, as a clause; empty if nothing is missing.

    Args:
        config, absent: as in ``needs``.
        nearest: the findings at the run's scale (``nearest_ladder``).
    """
    if study.base is not None or not (needed := needs(study, config, absent)):
        return ""  # another model has a positive control alone
    metrics, here = ", ".join(needed), f"at scale {config.label}"
    if nearest is None:
        return f"the sensitivity of {metrics} {here} was not measured"
    if paths := differences(nearest, config):
        measured, own = _some(nearest.base, paths), _some(base_of(config), paths)
        return f"the sensitivity of {metrics} {here} was measured with {measured}, not with {own}"
    curve = () if nearest.measured.intersection(SAMPLES) else SAMPLES
    rungs = set(curve).union(*needed.values()) - nearest.measured
    lacking = [metric for metric in needed if metric not in nearest.metrics]
    lacking += [f"{STUDY.label(rung)!r}" for rung in STUDY.cell_names if rung in rungs]
    return f"the sensitivity study of this base run has no results for {', '.join(lacking)}" if lacking else ""


def impossible(config: Program) -> list[str]:
    """Return the metrics that runs like this one cannot have; a UsageError if their data cannot be read."""
    return list(absent_metrics(config))


def typed(value: object) -> str:
    """Return a value as it is typed on a command line."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(typed, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _some(values: Mapping[str, Any], paths: Sequence[str]) -> str:
    """Return the first values, and the number of the others."""
    shown = ", ".join(f"{path}={typed(values.get(path))}" for path in paths[:MAX_NAMED])
    return shown if len(paths) <= MAX_NAMED else f"{shown} and {len(paths) - MAX_NAMED} more"
