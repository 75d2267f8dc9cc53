"""Which metrics can tell small known effects apart at a scale, judged by what a sensitivity study found.

Verdicts of all studies read it, if their baseline is the same run in all but its seed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import TypeAdapter

from aimv2.ablations.claims import CLAIMS, Kind
from aimv2.ablations.expectations import INK
from aimv2.ablations.ladder import (
    KnownEffect,
    Ladder,
    Seen,
    applies,
    floor_of,
    harm,
    holds_for,
    label_of,
    sees,
)
from aimv2.ablations.studies.sensitivity import RUNGS, SAMPLES
from aimv2.analysis.document.pages import plain
from aimv2.analysis.inference.intervals import Noise, with_interval
from aimv2.config.program import Program

NO_SENSITIVITY = "the sensitivity was not measured on this base run"
MARGIN_SHARE = 0.1  # of the samples: what they are worth is the equivalence margin of every metric


@dataclass(frozen=True)
class SampleCurve:
    """How much worse a metric is after a share of the samples than after all of them, in its unit.

    ``harms`` are by share, below 0 where it is better; in between they are linear in the logarithm of the share.
    """

    harms: Mapping[float, float] = field(default_factory=dict)

    @property
    def is_monotone(self) -> bool:
        """True if fewer samples are worse at every measured share."""
        _, harm_S = self._points
        return len(harm_S) > 1 and bool((np.diff(harm_S) < 0).all())

    @property
    def margin(self) -> float:
        """What ``MARGIN_SHARE`` of the samples is worth, in the metric's unit; NaN if the curve is not monotone."""
        log_S, harm_S = self._points
        return float(np.interp(np.log2(1 - MARGIN_SHARE), log_S, harm_S)) if self.is_monotone else float("nan")

    @property
    def _points(self) -> tuple[np.ndarray, np.ndarray]:
        """The logarithms of the shares, from few to many samples, and the harms."""
        points = sorted({**self.harms, 1.0: 0.0}.items())
        return np.log2([share for share, _ in points]), np.array([harm for _, harm in points])


@dataclass(frozen=True)
class MetricSensitivity:
    """The sensitivity of a metric at a scale."""

    metric: str
    text: str  # what it sees, or why it decides no claim (``is_blind``), for verdicts
    is_blind: bool = False
    unseen: Mapping[Kind, str] = field(default_factory=dict)  # by kind of claim that it does not decide, the reason
    # what samples are worth; empty for a metric that does not depend on them
    curve: SampleCurve = field(default_factory=SampleCurve)
    noise: Noise | None = None  # of a difference between two arms; None if it was not measured on this base

    @property
    def kinds(self) -> list[Kind]:
        """The kinds of claims that the metric may decide."""
        return [] if self.is_blind else [kind for kind in RUNGS if kind not in self.unseen]


def insensitive(metric: str, sensitivity: Mapping[str, MetricSensitivity], kinds: Sequence[Kind] = ()) -> str:
    """Return why a metric decides no claim of these kinds, or none at all; empty if it can decide."""
    if metric not in sensitivity:
        return NO_SENSITIVITY
    seen = sensitivity[metric]
    return seen.text if seen.is_blind else next((seen.unseen[kind] for kind in kinds if kind in seen.unseen), "")


def kinds_of(claim: str, metric: str) -> list[Kind]:
    """Return what a metric must see to decide a claim; samples count by the reader alone, as they saturate the probe of
    the second readout."""
    return [kind for kind in CLAIMS[claim].kinds if (kind, metric) != ("samples", INK)]


def margins(sensitivity: Mapping[str, MetricSensitivity]) -> dict[str, float]:
    """Return the measured equivalence margin of each metric that sees samples."""
    return {name: metric.curve.margin for name, metric in sensitivity.items() if metric.curve.is_monotone}


def sensitivity_by(nearest: Ladder | None, config: Program) -> Mapping[str, MetricSensitivity]:
    """Return the sensitivity of each metric by the nearest findings; empty if they do not hold for this run."""
    return {} if nearest is None or not holds_for(nearest, config) else sensitivity_of(nearest)


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


def _judged(metric: str, seen: Seen, ladder: Ladder) -> MetricSensitivity:
    scale = str(ladder.base["scale"])
    harms = {ratio: harm(metric, seen.effects[rung]).mean for rung, ratio in SAMPLES.items() if rung in seen.effects}
    curve = SampleCurve(harms)
    start = f"at scale {scale} {metric}"
    if why := _disorder(metric, seen, curve, ladder):
        return MetricSensitivity(metric, f"{start} {why}", is_blind=True)
    unseen = {
        kind: f"{start} does not see {_labels(missed, ladder)} ({_effect_of(missed[0], seen)})"
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
            return f"does not tell the base from this by more than the margin: {label} ({_effect_of(rung, seen)})"
        if rung in seen.above and not harm(metric, seen.above[rung]).low > curve.margin:
            shown = _effect_text(seen.above[rung])
            return f"does not tell the untrained encoder from this by more than the margin: {label} ({shown})"
    return ""


def _labels(rungs: Sequence[str], ladder: Ladder) -> str:
    return ", ".join(label_of(rung, ladder) for rung in rungs)


def _effect_of(rung: str, seen: Seen) -> str:
    return _effect_text(seen.effects[rung]) if rung in seen.effects else "not measured"


def _effect_text(effect: KnownEffect) -> str:
    return f"{with_interval(effect.mean, effect.low, effect.high, '+.3f')}, {effect.num_seeds} seeds"


def ladder_text(ladder: Ladder) -> str:
    """Return the findings as JSON, readable by eye."""
    values = TypeAdapter(Ladder).dump_python(ladder, mode="json")
    # The base is compared with configs, so its numbers keep their digits.
    return json.dumps(plain(values) | {"base": values["base"]}, indent=1) + "\n"
