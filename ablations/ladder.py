"""What sensitivity studies have measured: known effects on metrics at a base run, and what of them a study needs.

``sensitivity.json`` lies beside the report of ``sweep=sensitivity``. Launches with ``sensitivity=auto`` and verdicts
read it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

import pydantic.dataclasses
from pydantic import Field, NonNegativeFloat, TypeAdapter, ValidationError

from aimv2.ablations.claims import CLAIMS, Kind
from aimv2.ablations.studies.sensitivity import (
    BETTER,
    IMAGE_ONLY,
    OTHER_SIZES,
    PIXELS_ONLY,
    RUNGS,
    SAMPLES,
    SENSITIVITY,
    WITHOUT_PIXELS,
    WITHOUT_WORDS,
)
from aimv2.ablations.study import UNTRAINED, Study
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json
from aimv2.config.arguments import as_typed
from aimv2.config.data_config import CHECKED
from aimv2.config.program import Program, value_at
from aimv2.definitions.metrics import is_of_pixels, is_reported, is_retired, lower_is_better
from aimv2.definitions.objectives import objective
from aimv2.runs.provenance import PACKAGE

AUTO = "sensitivity=auto"  # the argument of a launch that measures what is missing
SLUG = SENSITIVITY.slug
FILE = "sensitivity.json"
PUBLISHED = "published"  # the folder, in that of reports, of those that are committed
COMMITTED = PACKAGE / "reports" / PUBLISHED
MAX_NAMED = 3  # differing values that a sentence names
# Of a run's identity, what changes single numbers but not what a metric can see.
NOT_BASE = frozenset({"seed", "threads", "ranks", "evaluation.metrics"})
OF_METRICS = "plugins.evaluation.metrics."
FINGERPRINT = "data.fingerprint"  # of packages, whose versions change little; of files, it says which data they are


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class KnownEffect:
    """A known effect on a metric: a rung of the ladder minus the base, with its 95 % interval."""

    mean: float
    low: float
    high: float
    num_seeds: int = Field(gt=1)


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class Seen:
    """What the ladder shows of a metric."""

    unit: str
    seed_sd: NonNegativeFloat  # of the base
    paired_sd: NonNegativeFloat  # of differences between arms with the same seed, pooled over arms
    effects: Mapping[str, KnownEffect]  # by rung, without those with failed runs
    # What the choice of items adds to the standard error of a difference between arms, the root mean square over rungs.
    items_error: NonNegativeFloat | None = None
    above: Mapping[str, KnownEffect] = field(default_factory=dict)  # untrained minus the rungs of ``FLOOR``


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class Ladder:
    """The findings of a sensitivity study."""

    version: Literal[3] = 3
    base: Mapping[str, Any]  # the values of the base run that it holds for, by path (``base_of``)
    rungs: Mapping[str, str]  # labels by name, in the order of reports
    metrics: Mapping[str, Seen]

    @property
    def measured(self) -> frozenset[str]:
        """The rungs whose effect on a metric is known."""
        return frozenset(rung for seen in self.metrics.values() for rung in seen.effects)

    @property
    def unmeasured(self) -> list[Kind]:
        """The kinds of effects of which a rung is not known."""
        return [kind for kind, rungs in RUNGS.items() if not self.measured.issuperset(rungs)]


def nearest_ladder(reports_dir: Path, config: Program) -> Ladder | None:
    """Return the findings at the run's scale whose base differs least from it; None if there are none. Those of the
    reports come before the committed ones; of several in a folder those of most rungs count."""
    ladders = list[Ladder]()
    for folder in (reports_dir, COMMITTED):
        found = map(read_ladder, sorted(folder.glob(f"{SLUG}*/{FILE}")))
        at_scale = (ladder for ladder in found if ladder.base["scale"] == config.label)
        ladders += sorted(at_scale, key=lambda ladder: -len(ladder.measured))
    return min(ladders, key=lambda ladder: len(differences(ladder, config)), default=None)


def holds_for(ladder: Ladder, config: Program) -> bool:
    """True if the findings are those of this run, whatever its seed."""
    return not differences(ladder, config)


def differences(ladder: Ladder, config: Program) -> list[str]:
    """Return the paths at which the base of the findings differs from this run."""
    base = base_of(config)
    different = [path for path in {**base, **ladder.base} if ladder.base.get(path) != base.get(path)]
    # That one of them has a further metric of a plug-in changes no other metric.
    return [path for path in different if not path.startswith(OF_METRICS) or {path} <= base.keys() & ladder.base.keys()]


def base_of(config: Program) -> dict[str, Any]:
    """Return the values that a sensitivity holds for, by path; files can share a name, so fingerprints count."""
    left_out = NOT_BASE if config.has_files else NOT_BASE | {FINGERPRINT}
    return {"scale": config.label} | {path: value for path, value in config.identity.items() if path not in left_out}


def read_ladder(path: Path) -> Ladder:
    try:
        values = read_json(path)
        if isinstance(values, dict):
            # Earlier versions measured the noise of learning curves, and choices between captions.
            values.pop("curves", None)
            if isinstance(metrics := values.get("metrics"), dict):
                values["metrics"] = {name: seen for name, seen in metrics.items() if not is_retired(name)}
        ladder = TypeAdapter(Ladder).validate_python(values)
        for metric in ladder.metrics:
            lower_is_better(metric)
        if not isinstance(ladder.base.get("scale"), str):
            raise UsageError("base.scale is missing")
    except (ValidationError, UsageError) as error:
        cause = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UsageError(
            f"{path} is not the result of a sensitivity study ({cause}); write it again with"
            f" {as_typed('report')} {path.parent.name}"
        ) from error
    return ladder


def harm(metric: str, effect: KnownEffect) -> KnownEffect:
    """Return how much worse the rung is than the base, whatever the direction of the metric."""
    if lower_is_better(metric):
        return effect
    return KnownEffect(mean=-effect.mean, low=-effect.high, high=-effect.low, num_seeds=effect.num_seeds)


def applies(metric: str, rung: str) -> bool:
    """True unless the rung trains only on pixels and the metric needs a network that was trained on captions."""
    return rung != PIXELS_ONLY or is_reported(metric, objective(IMAGE_ONLY))


def floor_of(metric: str, base: str) -> tuple[str, ...]:
    """Return the rungs that a metric must tell from the base, which has this objective: before training, and without
    words or own pixels."""
    reads_words = objective(base).reads_captions and not is_of_pixels(metric)
    floor = WITHOUT_WORDS if reads_words else WITHOUT_PIXELS
    return (UNTRAINED, *(rung for rung in floor if applies(metric, rung)))


def sees(metric: str, rung: str, seen: Seen) -> bool:
    """True if the 95 % interval of a rung's effect excludes zero on the side where it must lie."""
    if rung not in seen.effects:
        return False
    worse = harm(metric, seen.effects[rung])
    return worse.high < 0 if rung in BETTER else worse.low > 0


def label_of(rung: str, ladder: Ladder) -> str:
    return ladder.rungs.get(rung) or SENSITIVITY.label(rung)


def needs(study: Study, config: Program, absent: Collection[str] = ()) -> dict[str, set[str]]:
    """Return the rungs that a sensitivity study must have for what a study concludes, by the metric that decides it:
    those of the kinds of its claims, and those that every metric must order. Rungs that cannot start from given weights
    are left out if the baseline's run does, as are metrics that these runs do not have."""
    found = {metric: set(floor_of(metric, value_at(config, "objective.name"))) for metric in study.deciding_metrics}
    for claim, expectations in study.claims.items():
        rungs = {rung for kind in CLAIMS[claim].kinds for rung in RUNGS[kind]}
        for metric in {name for one in expectations for name in one.metrics}:
            found[metric] |= {rung for rung in rungs if applies(metric, rung)}
    other_sizes = OTHER_SIZES if value_at(config, "start.weights") else ()
    return {metric: rungs.difference(other_sizes) for metric, rungs in found.items() if metric not in absent}


def unmeasured(study: Study, config: Program, nearest: Ladder | None, absent: Collection[str] = ()) -> str:
    """Return what of the sensitivity that a study needs (``needs``) is not among the nearest findings, as a clause."""
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
    lacking += [f"{SENSITIVITY.label(rung)!r}" for rung in SENSITIVITY.cell_names if rung in rungs]
    return f"the sensitivity study of this base run has no results for {', '.join(lacking)}" if lacking else ""


def typed_value(value: object) -> str:
    """Return a value as it is typed on a command line."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(typed_value, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _some(values: Mapping[str, Any], paths: Sequence[str]) -> str:
    """Return the first values, and the number of the others."""
    shown = ", ".join(f"{path}={typed_value(values.get(path))}" for path in paths[:MAX_NAMED])
    return shown if len(paths) <= MAX_NAMED else f"{shown} and {len(paths) - MAX_NAMED} more"
