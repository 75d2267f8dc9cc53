"""Which metrics can tell small known effects apart at a scale: what a sensitivity study found, as data.

``sensitivity.json`` lies beside the report of ``sweep=sensitivity``. Verdicts of all studies read it, if their baseline
is the same run in all but its seed.
"""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic.dataclasses
from pydantic import Field, NonNegativeFloat, TypeAdapter, ValidationError

from ablations.expectations import STEP_TIME
from ablations.studies.sensitivity import STUDY
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json
from aimv2.config.data_config import CHECKED
from aimv2.config.paths import value_at
from aimv2.config.run_config import RunConfig
from aimv2.config.signature import DESCRIBED, identity, is_name
from aimv2.spec.metrics import lower_is_better
from analysis.document.data import plain
from analysis.inference.intervals import LEVEL, with_interval
from analysis.inference.power import Aim, Noise, seeds_for

SLUG = STUDY.slug
FILE = "sensitivity.json"
COMMITTED = Path(__file__).parents[2] / "reports"

HALF, TWICE, HALF_DEPTH = "samples_050", "samples_200", "depth_050"  # arms of the sensitivity study
MAX_SEEDS = 999
MAX_NAMED = 3  # differing values that a text names
# Of a run's identity, what changes single numbers but not what a metric can see.
NOT_BASE = frozenset({"seed", "threads", "ranks"})
SAME_SIZE = ("base", "samples_025", HALF, TWICE)  # arms whose network is that of the base
FINGERPRINT = "data.fingerprint"  # of packages, whose versions change little; of files, it says which data they are
FILLED_IN = (FINGERPRINT, "start.fingerprint", "start.teacher_")  # starts of paths that cannot be typed


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class KnownEffect:
    """A known effect on a metric: a rung of the ladder minus the base, with its 95 % interval."""

    mean: float
    low: float
    high: float
    num_seeds: int = Field(gt=1)

    def text(self) -> str:
        return f"{with_interval(self.mean, self.low, self.high, '+.3f')}, {self.num_seeds} seeds"


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class Seen:
    """What the ladder shows of a metric.

    Attributes:
        seed_sd: standard deviation of the base over seeds.
        paired_sd: that of differences between arms with the same seed, pooled over arms.
        effects: by rung; those of rungs with failed runs are left out.
        items_error: what the choice of items adds to the standard error of a difference between arms, the root mean
            square over rungs; None if it was not measured.
    """

    unit: str
    seed_sd: NonNegativeFloat
    paired_sd: NonNegativeFloat
    effects: Mapping[str, KnownEffect]
    items_error: NonNegativeFloat | None = None


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class Ladder:
    """The findings of a sensitivity study.

    Attributes:
        base: the values of the base run that it holds for, by path (``base_of``).
        rungs: labels, by name, in the order of reports.
        metrics: by name.
    """

    version: Literal[2] = 2
    base: Mapping[str, Any]
    rungs: Mapping[str, str]
    metrics: Mapping[str, Seen]


@dataclass(frozen=True)
class MetricSensitivity:
    """The sensitivity of a metric at a scale.

    Attributes:
        tells_small_steps: True if the metric tells the small steps of the sensitivity study's ladder apart; a metric
            that does not decides no claim.
        text: what it tells apart or does not, for verdicts.
    """

    metric: str
    tells_small_steps: bool
    text: str


def read_sensitivity(reports_dir: Path, config: RunConfig) -> Mapping[str, MetricSensitivity]:
    """Return the sensitivity of each metric that was measured at the run's scale; empty if none was.

    The reports folder comes first, then the reports that are committed with this code. In both, every folder counts
    whose name starts with ``sensitivity``. If all hold for other runs than this one, no metric decides, and the texts
    say what differs from the nearest.

    Args:
        config: the baseline's run.

    Raises:
        UsageError: a file is broken.
    """
    return sensitivity_by(nearest_ladder(reports_dir, config), config)


def sensitivity_by(nearest: Ladder | None, config: RunConfig) -> Mapping[str, MetricSensitivity]:
    """Return the sensitivity of each metric by the nearest findings, as ``read_sensitivity`` does."""
    if nearest is None:
        return {}
    return sensitivity_of(nearest) if holds_for(nearest, config) else _of_another_base(nearest, config)


def nearest_ladder(reports_dir: Path, config: RunConfig) -> Ladder | None:
    """Return the findings at the run's scale whose base differs least from it; None if there are none.

    Where they are read from, and errors, are as in ``read_sensitivity``.
    """
    paths = [path for folder in (reports_dir, COMMITTED) for path in sorted(folder.glob(f"{SLUG}*/{FILE}"))]
    ladders = [ladder for ladder in map(read_ladder, paths) if ladder.base["scale"] == config.scale]
    return min(ladders, key=lambda ladder: len(_differences(ladder, config)), default=None)


def holds_for(ladder: Ladder, config: RunConfig) -> bool:
    """True if the findings are those of this run, whatever its seed."""
    return not _differences(ladder, config)


def not_measured(metric: str, scale: str) -> str:
    """Say that a metric's sensitivity is unknown, and what to run."""
    return (
        f"sensitivity of {metric} at scale {scale} was not measured:"
        f" run python sweeps/launch.py sweep={SLUG} scale={scale}, on the same data"
    )


def insensitive(metric: str, sensitivity: Mapping[str, MetricSensitivity], scale: str) -> str:
    """Return why a metric decides nothing; empty if it can."""
    if metric not in sensitivity:
        return not_measured(metric, scale)
    return "" if sensitivity[metric].tells_small_steps else sensitivity[metric].text


def sensitivity_of(ladder: Ladder) -> Mapping[str, MetricSensitivity]:
    """Judge every metric by the ladder.

    A metric decides claims if it tells half the samples from all of them: the 95 % interval of the difference excludes
    zero in the right direction, and twice the samples are not worse in the same sense. The time of a step does not
    depend on samples; it must tell half the encoder's depth from all of it.
    """
    scale = str(ladder.base["scale"])
    return {metric: _judged(metric, seen, scale) for metric, seen in ladder.metrics.items()}


def base_of(config: RunConfig) -> dict[str, Any]:
    """Return the values that a sensitivity holds for, by path: the scale, and a run's identity but for ``NOT_BASE``.

    Two sources in files can have one name, so their fingerprint counts.
    """
    left_out = NOT_BASE if config.data.kind == "files" else NOT_BASE | {FINGERPRINT}
    return {"scale": config.scale} | {path: value for path, value in identity(config).items() if path not in left_out}


def ladder_text(ladder: Ladder) -> str:
    """Return the findings as JSON, readable by eye."""
    values = TypeAdapter(Ladder).dump_python(ladder, mode="json")
    # The base is compared with configs, so its numbers keep their digits.
    return json.dumps(plain(values) | {"base": values["base"]}, indent=1) + "\n"


def read_ladder(path: Path) -> Ladder:
    """Read the findings of a sensitivity study.

    Raises:
        UsageError: the file is broken, or names unknown metrics.
    """
    try:
        ladder = TypeAdapter(Ladder).validate_python(read_json(path))
        for metric in ladder.metrics:
            lower_is_better(metric)
        if not isinstance(ladder.base.get("scale"), str):
            raise UsageError("base.scale is missing")
    except (ValidationError, UsageError) as error:
        cause = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UsageError(
            f"{path} is not the result of a sensitivity study ({cause}); write it again with"
            f" python analysis/report.py {path.parent.name}"
        ) from error
    return ladder


def seeds_needed(paired_sd: float, size: float) -> float:
    """Return the seeds with which the 95 % interval of two arms by themselves shows a true difference, with 80 % power.

    A study of more arms pools their error, and needs at most as many.

    Args:
        paired_sd: standard deviation of paired differences.
        size: the true difference, in the same unit.

    Returns:
        2 or more; infinity if ``MAX_SEEDS`` are too few.
    """
    seeds = seeds_for(Noise(paired_sd), Aim(size, (1 - LEVEL) / 2))
    return seeds if seeds <= MAX_SEEDS else math.inf


def harm(metric: str, effect: KnownEffect) -> KnownEffect:
    """Return how much worse the rung is than the base, whatever the direction of the metric."""
    if lower_is_better(metric):
        return effect
    return KnownEffect(mean=-effect.mean, low=-effect.high, high=-effect.low, num_seeds=effect.num_seeds)


def small_step(metric: str) -> tuple[str, str]:
    """Return the rung that a metric must tell from the base, and the step in words."""
    if metric == STEP_TIME:
        return HALF_DEPTH, "half the depth of the encoder from all of it"
    return HALF, "half the samples from all of them"


def _judged(metric: str, seen: Seen, scale: str) -> MetricSensitivity:
    rung, step = small_step(metric)
    effect = seen.effects.get(rung)
    blind = f"not testable at scale {scale} with this metric: {metric} does not tell {step}"
    if effect is None:
        return MetricSensitivity(metric, False, f"{blind} (not measured)")
    worse = harm(metric, effect)
    # Half the depth takes less time, so its right direction is the other one.
    is_told = worse.high < 0 if metric == STEP_TIME else worse.low > 0
    if not is_told:
        return MetricSensitivity(metric, False, f"{blind} ({effect.text()})")
    twice = seen.effects.get(TWICE)
    if metric != STEP_TIME and twice is not None and harm(metric, twice).low > 0:
        why = f"{blind} in both directions: twice the samples are worse ({twice.text()})"
        return MetricSensitivity(metric, False, why)
    return MetricSensitivity(metric, True, f"{metric} tells {step} ({effect.text()}) at scale {scale}")


def _of_another_base(ladder: Ladder, config: RunConfig) -> dict[str, MetricSensitivity]:
    changed, base = _differences(ladder, config), base_of(config)
    measured, here = _some(ladder.base, changed), _some(base, changed)
    typed = base | {path: value_at(config, path) for path in DESCRIBED}  # where the files are, not only their names
    overrides = [shlex.quote(f"{path}={_typed(typed.get(path))}") for path in changed if not path.startswith(FILLED_IN)]
    # A suffix, so that it does not replace the other report.
    suffix = next((path.rpartition(".")[2] for path in changed if not path.startswith(FILLED_IN)), "data")
    words = ["python sweeps/launch.py", f"sweep={SLUG}", *_started(config), *overrides, f"sweep.suffix={suffix}"]
    command = " ".join(words)
    text = f"was measured at scale {config.scale} with {measured}, not with {here}: run {command}"
    return {metric: MetricSensitivity(metric, False, f"sensitivity of {metric} {text}") for metric in ladder.metrics}


def _started(config: RunConfig) -> list[str]:
    """Return the overrides that start a sensitivity study as the run was: from its scale, or from its weights.

    An encoder of another size cannot start from given weights, so arms of other sizes are left out.
    """
    start = config.start
    scale = [] if is_name(start.fingerprint) else [f"scale={config.scale}"]
    teacher = [f"start.teacher={start.teacher}"] if start.teacher else []
    weights = [f"start.weights={start.weights}", f"sweep.arms=[{','.join(SAME_SIZE)}]"] if start.weights else []
    return scale + [shlex.quote(override) for override in teacher + weights]


def _some(values: Mapping[str, Any], paths: Sequence[str]) -> str:
    """Return the first values, and the number of the others."""
    shown = ", ".join(f"{path}={_typed(values.get(path))}" for path in paths[:MAX_NAMED])
    return shown if len(paths) <= MAX_NAMED else f"{shown} and {len(paths) - MAX_NAMED} more"


def _differences(ladder: Ladder, config: RunConfig) -> Sequence[str]:
    base = base_of(config)
    return [path for path in {**base, **ladder.base} if ladder.base.get(path) != base.get(path)]


def _typed(value: object) -> str:
    """Return a value as it is typed on a command line."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_typed, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
