"""Which metrics can tell small known effects apart at a scale: what a sensitivity study found, as data.

``sensitivity.json`` lies beside the report of ``sweep=sensitivity``. Verdicts of all studies read it, if their baseline
is the same run in all but its seed.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import pydantic.dataclasses
from pydantic import Field, NonNegativeFloat, TypeAdapter, ValidationError

from aimv2.ablations.claims import Kind
from aimv2.ablations.studies.sensitivity import (
    BETTER,
    IMAGE_ONLY,
    PIXELS_ONLY,
    RUNGS,
    SAMPLES,
    STUDY,
    WITHOUT_PIXELS,
    WITHOUT_WORDS,
)
from aimv2.ablations.study import UNTRAINED
from aimv2.analysis.document.pages import plain
from aimv2.analysis.evidence.recorded_runs import PUBLISHED
from aimv2.analysis.inference.intervals import LEVEL, Estimate, with_interval
from aimv2.analysis.inference.power import Aim, Noise, seeds_for
from aimv2.analysis.judgement.samples import SampleCurve
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json
from aimv2.base.typed import as_typed
from aimv2.config.data_config import CHECKED
from aimv2.config.program import Program
from aimv2.runs.provenance import PACKAGE
from aimv2.spec.metrics import is_of_pixels, is_reported, lower_is_better
from aimv2.spec.objectives import objective

SLUG = STUDY.slug
FILE = "sensitivity.json"
COMMITTED = PACKAGE / "reports" / PUBLISHED

NO_SENSITIVITY = "the sensitivity was not measured on this base run"
MAX_SEEDS = 999
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

    @classmethod
    def of(cls, estimate: Estimate) -> Self:
        return cls(mean=estimate.mean, low=estimate.low, high=estimate.high, num_seeds=estimate.n)

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
        above: by rung of which an encoder learns, but nothing of words or of own pixels (``FLOOR``), the untrained
            encoder minus that rung.
    """

    unit: str
    seed_sd: NonNegativeFloat
    paired_sd: NonNegativeFloat
    effects: Mapping[str, KnownEffect]
    items_error: NonNegativeFloat | None = None
    above: Mapping[str, KnownEffect] = field(default_factory=dict)


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class Ladder:
    """The findings of a sensitivity study.

    Attributes:
        base: the values of the base run that it holds for, by path (``base_of``).
        rungs: labels, by name, in the order of reports.
        metrics: by name.
        curves: the ``paired_sd`` of each held-out curve, by its column and the samples at its points.
    """

    version: Literal[3] = 3
    base: Mapping[str, Any]
    rungs: Mapping[str, str]
    metrics: Mapping[str, Seen]
    curves: Mapping[str, Mapping[int, NonNegativeFloat]] = field(default_factory=dict)

    @property
    def measured(self) -> frozenset[str]:
        """The rungs whose effect on a metric is known."""
        return frozenset(rung for seen in self.metrics.values() for rung in seen.effects)

    @property
    def unmeasured(self) -> list[Kind]:
        """The kinds of effects of which a rung is not known."""
        return [kind for kind, rungs in RUNGS.items() if not self.measured.issuperset(rungs)]


@dataclass(frozen=True)
class MetricSensitivity:
    """The sensitivity of a metric at a scale.

    Attributes:
        text: what it sees, or why it decides no claim, for verdicts.
        is_blind: True if it decides no claim at all.
        unseen: by kind of claim that it does not decide, the reason.
        curve: what samples are worth; empty for a metric that does not depend on them.
        noise: of a difference between two arms; None if it was not measured on this base.
    """

    metric: str
    text: str
    is_blind: bool = False
    unseen: Mapping[Kind, str] = field(default_factory=dict)
    curve: SampleCurve = field(default_factory=SampleCurve)
    noise: Noise | None = None


def read_sensitivity(reports_dir: Path, config: Program) -> Mapping[str, MetricSensitivity]:
    """Return the sensitivity of each metric that was measured on this run, whatever its seed; empty if none was.

    The reports folder comes first, then the reports that are committed with this code. In both, every folder counts
    whose name starts with ``sensitivity``.

    Args:
        config: the baseline's run.

    Raises:
        UsageError: a file is broken.
    """
    return sensitivity_by(nearest_ladder(reports_dir, config), config)


def sensitivity_by(nearest: Ladder | None, config: Program) -> Mapping[str, MetricSensitivity]:
    """Return the sensitivity of each metric by the nearest findings, as ``read_sensitivity`` does."""
    return {} if nearest is None or not holds_for(nearest, config) else sensitivity_of(nearest)


def measured_curves(reports_dir: Path, config: Program) -> Mapping[str, Mapping[int, float]]:
    """Return the noise of held-out curves that was measured on this run, as ``read_sensitivity`` does metrics."""
    nearest = nearest_ladder(reports_dir, config)
    return nearest.curves if nearest is not None and holds_for(nearest, config) else {}


def nearest_ladder(reports_dir: Path, config: Program) -> Ladder | None:
    """Return the findings at the run's scale whose base differs least from it; None if there are none.

    Of several in a folder those of most rungs count. Where they are read from, and errors, are as in
    ``read_sensitivity``.
    """
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


def insensitive(metric: str, sensitivity: Mapping[str, MetricSensitivity], kinds: Sequence[Kind] = ()) -> str:
    """Return why a metric decides no claim of these kinds, or none at all; empty if it can decide."""
    if metric not in sensitivity:
        return NO_SENSITIVITY
    own = sensitivity[metric]
    if own.is_blind:
        return own.text
    return next((own.unseen[kind] for kind in kinds if kind in own.unseen), "")


def margins(sensitivity: Mapping[str, MetricSensitivity]) -> dict[str, float]:
    """Return the measured equivalence margin of each metric that sees samples (``samples.MARGIN_SHARE``)."""
    return {metric: one.curve.margin for metric, one in sensitivity.items() if one.curve.is_monotone}


def sensitivity_of(ladder: Ladder) -> Mapping[str, MetricSensitivity]:
    """Judge every metric by the ladder, whose effects are certain because of how the rungs are made.

    A metric decides claims if it gets worse with every cut in samples, and if it orders the untrained encoder, training
    without words and the base, each by more than the margin; a pixel loss, or any metric of a base that reads no
    captions, training without own pixels instead. It decides claims of a kind if it also sees each rung of that kind
    (``RUNGS``): the 95 % interval excludes zero on the right side.
    """
    return {
        metric: replace(_judged(metric, seen, ladder), noise=Noise(seen.paired_sd, seen.items_error or 0.0))
        for metric, seen in ladder.metrics.items()
    }


def base_of(config: Program) -> dict[str, Any]:
    """Return the values that a sensitivity holds for, by path: the scale, and a run's identity but for ``NOT_BASE``.

    Two sources in files can have one name, so their fingerprint counts.
    """
    left_out = NOT_BASE if config.has_files else NOT_BASE | {FINGERPRINT}
    return {"scale": config.label} | {path: value for path, value in config.identity.items() if path not in left_out}


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
            f" {as_typed('report')} {path.parent.name}"
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


def applies(metric: str, rung: str) -> bool:
    """True unless the rung trains only on pixels and the metric needs a network that was trained on captions."""
    return rung != PIXELS_ONLY or is_reported(metric, objective(IMAGE_ONLY))


def floor_of(metric: str, base: str) -> tuple[str, ...]:
    """Return the rungs that a metric must tell from the base: before training, and without words or own pixels.

    Args:
        base: the objective of the base.
    """
    reads_words = objective(base).reads_captions and not is_of_pixels(metric)
    floor = WITHOUT_WORDS if reads_words else WITHOUT_PIXELS
    return (UNTRAINED, *(rung for rung in floor if applies(metric, rung)))


def sees(metric: str, rung: str, seen: Seen) -> bool:
    """True if the 95 % interval of a rung's effect excludes zero on the side where it must lie."""
    if rung not in seen.effects:
        return False
    worse = harm(metric, seen.effects[rung])
    return worse.high < 0 if rung in BETTER else worse.low > 0


def _judged(metric: str, seen: Seen, ladder: Ladder) -> MetricSensitivity:
    scale = str(ladder.base["scale"])
    harms = {ratio: harm(metric, seen.effects[rung]).mean for rung, ratio in SAMPLES.items() if rung in seen.effects}
    curve = SampleCurve(harms)
    start = f"at scale {scale} {metric}"
    if why := _disorder(metric, seen, curve, ladder):
        return MetricSensitivity(metric, f"{start} {why}", is_blind=True)
    unseen = {
        kind: f"{start} does not see {_labels(missed, ladder)} ({_shown(missed[0], seen)})"
        for kind, rungs in RUNGS.items()
        if (missed := [rung for rung in rungs if applies(metric, rung) and not sees(metric, rung, seen)])
    }
    shown = [rung for rung in seen.effects if sees(metric, rung, seen)]
    text = f"{metric} sees at scale {scale}: {_labels(shown, ladder)}"
    return MetricSensitivity(metric, text, unseen=unseen, curve=curve)


def _disorder(metric: str, seen: Seen, curve: SampleCurve, ladder: Ladder) -> str:
    """Return how a metric fails to order what is certain; empty if it does not."""
    if not curve.harms:
        return "was not measured after fewer samples"
    if not curve.is_monotone:
        points = ", ".join(f"{share:g} x {harm:+.3g}" for share, harm in sorted(curve.harms.items()))
        return f"does not get worse with every cut in samples (samples, and how much worse: {points})"
    for rung in floor_of(metric, str(ladder.base["objective.name"])):
        label = label_of(rung, ladder)
        if rung not in seen.effects:
            return f"was not measured on: {label}"
        if not harm(metric, seen.effects[rung]).low > curve.margin:
            return f"does not tell the base from this by more than the margin: {label} ({_shown(rung, seen)})"
        if rung in seen.above and not harm(metric, seen.above[rung]).low > curve.margin:
            shown = seen.above[rung].text()
            return f"does not tell the untrained encoder from this by more than the margin: {label} ({shown})"
    return ""


def label_of(rung: str, ladder: Ladder) -> str:
    """Return the label of a rung, which the ladder may lack."""
    return ladder.rungs.get(rung) or STUDY.label(rung)


def _labels(rungs: Sequence[str], ladder: Ladder) -> str:
    return ", ".join(label_of(rung, ladder) for rung in rungs)


def _shown(rung: str, seen: Seen) -> str:
    return seen.effects[rung].text() if rung in seen.effects else "not measured"
