"""Which metrics can tell small known effects apart at a scale, judged by what a sensitivity study found.

Verdicts of all studies read it, if their baseline is the same run in all but its seed.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter

from aimv2.ablations.claims import Kind
from aimv2.ablations.ladder import (
    KnownEffect,
    Ladder,
    Seen,
    applies,
    floor_of,
    harm,
    holds_for,
    label_of,
    nearest_ladder,
    sees,
)
from aimv2.ablations.studies.sensitivity import RUNGS, SAMPLES
from aimv2.analysis.document.data import plain
from aimv2.analysis.inference.intervals import LEVEL, Estimate, with_interval
from aimv2.analysis.inference.power import Aim, Noise, seeds_for
from aimv2.analysis.judgement.samples import SampleCurve
from aimv2.config.program import Program

NO_SENSITIVITY = "the sensitivity was not measured on this base run"
MAX_SEEDS = 999


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


def ladder_text(ladder: Ladder) -> str:
    """Return the findings as JSON, readable by eye."""
    values = TypeAdapter(Ladder).dump_python(ladder, mode="json")
    # The base is compared with configs, so its numbers keep their digits.
    return json.dumps(plain(values) | {"base": values["base"]}, indent=1) + "\n"


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


def known_effect(estimate: Estimate) -> KnownEffect:
    return KnownEffect(mean=estimate.mean, low=estimate.low, high=estimate.high, num_seeds=estimate.n)


def effect_text(effect: KnownEffect) -> str:
    return f"{with_interval(effect.mean, effect.low, effect.high, '+.3f')}, {effect.num_seeds} seeds"


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
            shown = effect_text(seen.above[rung])
            return f"does not tell the untrained encoder from this by more than the margin: {label} ({shown})"
    return ""


def _labels(rungs: Sequence[str], ladder: Ladder) -> str:
    return ", ".join(label_of(rung, ladder) for rung in rungs)


def _shown(rung: str, seen: Seen) -> str:
    return effect_text(seen.effects[rung]) if rung in seen.effects else "not measured"
