"""The number of seeds that decides a claim, and its price: the one planner of pages and of ``report.py check``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aimv2.ablations.expectations import Combination, Expected, Ranges
from aimv2.ablations.study import Study
from aimv2.analysis.inference.contrasts import num_contrasts
from aimv2.analysis.inference.intervals import POWER, Aim, Estimate, Noise, bonferroni, seeds_for
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.rules import Word, aim_of, level_of
from aimv2.analysis.judgement.sensitivity import MetricSensitivity, insensitive, kinds_of, margins
from aimv2.analysis.judgement.verdicts import compared_in_words

MAX_SEEDS = 999  # that a text names
USUAL_SEEDS = 16  # of a look that is planned, unless one was at as many


@dataclass(frozen=True)
class Planner:
    """What a study's comparisons of a claim can show, at the noise of the sensitivity study and the claim's level.
    The study has measured margins, and the sensitivity, by metric, is that of its baseline."""

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
        metrics = dict.fromkeys(metric for expected in self.expectations for metric in expected.metrics)
        reasons = (insensitive(metric, self.sensitivity, kinds_of(self.claim, metric)) for metric in metrics)
        return next(filter(None, reasons), "")

    @property
    def seeds(self) -> float:
        """About how many seeds each comparison takes at most; infinity if no number decides it; NaN if unknown."""
        if self.blind:
            return math.nan
        known = [seeds for expected in self.expectations if not math.isnan(seeds := self.seeds_of(expected))]
        return max(known, default=math.nan)

    def seeds_of(self, expected: Expected) -> float:
        """Return the seeds that support the relation; NaN if the noise, or a difference to detect, is not known."""
        noise = self._noise(expected)
        return math.nan if noise is None else seeds_for(noise, self.aim(expected))

    def seeds_if_negligible(self, expected: Expected) -> float:
        """Return the seeds that show that a claimed effect is negligible, if there is none; NaN as in ``seeds_of``."""
        noise = self._noise(expected)
        aim = aim_of("not better", self.study.margin_of(expected), None, 1 - self.aim(expected).alpha * 2)
        return math.nan if noise is None else seeds_for(noise, aim)

    def text(self, expected: Expected, num_seeds: int) -> str:
        """Return what the comparison can show with so many seeds."""
        compared, noise, aim = compared_in_words(self.study, expected), self._noise(expected), self.aim(expected)
        if noise is None:
            return f"  {compared}: its noise was not measured"
        shown, what = aim.detectable(noise, num_seeds), _what(expected)
        power = f"{num_seeds} seeds {what} {shown:.3g} with {100 * POWER:.0f} % power"
        if aim.distance > 0:
            seeds = self.seeds_of(expected)
            many = "no number of" if seeds == math.inf else f"more than {MAX_SEEDS}"
            power += f"; one of {aim.distance:.3g} takes {f'{seeds:g}' if seeds <= MAX_SEEDS else many} seeds"
        if expected.relation in ("better", "worse", "wider"):
            seeds = self.seeds_if_negligible(expected)
            if seeds <= MAX_SEEDS:
                power += f"; if there is none, {seeds:g} show that it is negligible"
        return f"  {compared}, expected {expected.relation}: {power}"

    def aim(self, expected: Expected) -> Aim:
        """Return what the interval of a comparison must exclude."""
        level = self.level
        if isinstance(expected, Ranges):
            level = bonferroni(num_contrasts(expected.range_arms, expected.than_arms), level)
        return aim_of(expected.relation, self.study.margin_of(expected), expected.effect, level)

    def _noise(self, expected: Expected) -> Noise | None:
        """Return the two parts of the error; None if the noise was not measured.

        The ladder has that of differences of two arms, whose squared weights add up to 2. Differences of two metrics
        are taken to spread as much as those of arms in the first. Bounds of ranges cover seeds only.
        """
        seen = self.sensitivity.get(expected.metric)
        if seen is None or seen.noise is None:
            return None
        squares = 4.0 if isinstance(expected, Ranges) else 2.0
        if isinstance(expected, Combination):
            squares = sum(weight**2 for weight in expected.weights.values())
        scale = math.sqrt(squares / 2)
        return Noise(scale * seen.noise.seeds, 0.0 if isinstance(expected, Ranges) else scale * seen.noise.items)


def _what(expected: Expected) -> str:
    """Return what seeds do to the distance of an aim."""
    if expected.relation == "far worse" and expected.effect is not None:
        return "detect an excess over the margin of"
    does_rule_out = expected.relation in ("equal", "not better", "not worse", "far worse")
    return "rule out, if there is none, a difference of" if does_rule_out else "detect a difference of"


def planner_of(study: Study, claim: str, level: float, sensitivity: Mapping[str, MetricSensitivity]) -> Planner:
    """Return the planner of a claim; the study gets the measured margins."""
    return Planner(study.with_margins(margins(sensitivity)), claim, level, sensitivity)


def seeds_to_decide(findings: Findings, claim: str) -> float:
    """Return about how many seeds decide an undecided claim at the next look; NaN for other verdicts. The noise is the
    larger of that of the sensitivity study, which may have no arm as noisy, and that of the differences here."""
    verdict = findings.verdicts[claim]
    if verdict.word is not Word.UNDECIDED:
        return math.nan
    is_stale = findings.reasons.are_older_than_rules(claim)
    look = Look(1, USUAL_SEEDS) if is_stale else findings.look.then(max(USUAL_SEEDS, 2 * findings.look.num_seeds))
    level = level_of(look.level)
    planner = planner_of(findings.study, claim, level, findings.sensitivity)
    known = [
        seeds_for(Noise.of(judged.difference), planner.aim(judged.expected))
        for judged in verdict.comparisons
        if isinstance(judged.difference, Estimate) and judged.difference.has_interval
    ]
    return max((seeds for seeds in (planner.seeds, *known) if not math.isnan(seeds)), default=math.nan)


def in_words(seeds: float) -> str:
    """Return a sentence about the seeds that would decide; empty if they are not known."""
    if math.isnan(seeds):
        return ""
    if math.isinf(seeds):
        return "No number of seeds decides it: the error from the choice of evaluation items alone is too large."
    return f"More than {MAX_SEEDS} seeds are needed." if seeds > MAX_SEEDS else f"About {seeds:g} seeds decide it."


class Price(NamedTuple):
    """What decides an undecided claim: the hours and runs that its study lacks, and the seeds of each arm in all."""

    hours: float
    num_runs: float
    num_seeds: float


def price_to_decide(findings: Findings, claim: str) -> Price | None:
    """Return what decides a claim, at the mean cost of a seed of each arm; None if it is decided or nothing does it.
    Seeds that are older than the rules do not count."""
    num_seeds = seeds_to_decide(findings, claim)
    if not num_seeds <= MAX_SEEDS:
        return None
    seconds = findings.evidence.runs.groupby("arm")["seconds"]
    is_stale = findings.reasons.are_older_than_rules(claim)
    lacking = (num_seeds - (0 if is_stale else 1) * seconds.size()).clip(lower=0)
    if not lacking.any():
        return None
    return Price((lacking * seconds.mean()).sum() / 3600, lacking.sum(), num_seeds)
