"""The number of seeds that decides a claim: the one planner of the page of claims and of ``report.py check``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.expectations import Combination, Expected, Ranges
from aimv2.ablations.study import Study
from aimv2.analysis.inference.contrasts import num_contrasts
from aimv2.analysis.inference.intervals import POWER, bonferroni
from aimv2.analysis.inference.power import Aim, Noise, aim_of, seeds_for
from aimv2.analysis.judgement.sensitivity import MAX_SEEDS, MetricSensitivity, insensitive, margins
from aimv2.analysis.judgement.verdicts import compared_in_words, level_of


@dataclass(frozen=True)
class Planner:
    """What a study's comparisons of a claim can show, at the noise of the sensitivity study and the level of a look.

    Attributes:
        study: one that judges the claim, with measured margins.
        level: of the next look (``Look.level``).
        sensitivity: by metric, on the study's baseline.
    """

    study: Study
    claim: str
    level: float
    sensitivity: Mapping[str, MetricSensitivity]

    @property
    def expectations(self) -> Sequence[Expected]:
        return self.study.claims[self.claim]

    @property
    def blind(self) -> str:
        """Why a metric of the claim does not decide it; empty if all can."""
        metrics = dict.fromkeys(metric for one in self.expectations for metric in one.metrics)
        kinds = CLAIMS[self.claim].kinds
        return next(filter(None, (insensitive(metric, self.sensitivity, kinds) for metric in metrics)), "")

    @property
    def seeds(self) -> float:
        """About how many seeds each comparison takes at most, by itself.

        Returns:
            Infinity if no number decides one of them; NaN if the metric is blind, or nothing is known.
        """
        if self.blind:
            return math.nan
        known = [seeds for one in self.expectations if not math.isnan(seeds := self.seeds_of(one))]
        return max(known, default=math.nan)

    def seeds_of(self, one: Expected) -> float:
        """Return the seeds that support the relation; NaN if the noise, or a difference to detect, is not known."""
        noise = self._noise(one)
        return math.nan if noise is None else seeds_for(noise, self.aim(one))

    def text(self, one: Expected, num_seeds: int) -> str:
        """Return what the comparison can show with so many seeds."""
        compared, noise, aim = compared_in_words(self.study, one), self._noise(one), self.aim(one)
        if noise is None:
            return f"  {compared}: its noise was not measured"
        shown, what = aim.detectable(noise, num_seeds), _what(one)
        power = f"{num_seeds} seeds {what} {shown:.3g} with {100 * POWER:.0f} % power"
        if aim.distance > 0:
            seeds = self.seeds_of(one)
            many = "no number of" if seeds == math.inf else f"more than {MAX_SEEDS}"
            power += f"; one of {aim.distance:.3g} takes {f'{seeds:g}' if seeds <= MAX_SEEDS else many} seeds"
        return f"  {compared}, expected {one.relation}: {power}"

    def aim(self, one: Expected) -> Aim:
        """Return what the interval of a comparison must exclude."""
        level = level_of(self.claim, self.level)
        if isinstance(one, Ranges):
            level = bonferroni(num_contrasts(one.range_arms, one.than_arms), level)
        return aim_of(one.relation, self.study.margin_of(one), one.effect, level)

    def _noise(self, one: Expected) -> Noise | None:
        """Return the two parts of the error; None if the noise was not measured.

        The ladder has that of differences of two arms, whose squared weights add up to 2. Differences of two metrics
        are taken to spread as much as those of arms in the first. Bounds of ranges cover seeds only.
        """
        seen = self.sensitivity.get(one.metric)
        if seen is None or seen.noise is None:
            return None
        squares = 4.0 if isinstance(one, Ranges) else 2.0
        if isinstance(one, Combination):
            squares = sum(weight**2 for weight in one.weights.values())
        scale = math.sqrt(squares / 2)
        return Noise(scale * seen.noise.seeds, 0.0 if isinstance(one, Ranges) else scale * seen.noise.items)


def planner_of(study: Study, claim: str, level: float, sensitivity: Mapping[str, MetricSensitivity]) -> Planner:
    """Return the planner of a claim; the study gets the measured margins."""
    return Planner(study.with_margins(margins(sensitivity)), claim, level, sensitivity)


def in_words(seeds: float) -> str:
    """Return a sentence about the seeds that would decide; empty if they are not known."""
    if math.isnan(seeds):
        return ""
    if math.isinf(seeds):
        return "No number of seeds decides it: the error from the choice of evaluation items alone is too large."
    return f"More than {MAX_SEEDS} seeds are needed." if seeds > MAX_SEEDS else f"About {seeds:g} seeds decide it."


def _what(one: Expected) -> str:
    """Return what seeds do to the distance of an aim (``aim_of``)."""
    if one.relation == "far worse" and one.effect is not None:
        return "detect an excess over the margin of"
    does_rule_out = one.relation in ("equal", "not better", "not worse", "far worse")
    return "rule out, if there is none, a difference of" if does_rule_out else "detect a difference of"
