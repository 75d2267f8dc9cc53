"""What a check of a claim will run, and what its seeds can show."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from ablations.adapt import adapted
from ablations.budget import Equal
from ablations.catalogue import STUDIES
from ablations.claims import Claim
from ablations.expectations import Combination, Expected, Ranges
from ablations.request import DEFAULT_SCALE
from ablations.study import Study
from aimv2.base.errors import UsageError, unknown
from aimv2.config.run_config import RunConfig
from aimv2.request.compose import RUN_KEYS, compose, run_config
from aimv2.request.resolve import resolve
from analysis.inference.intervals import POWER, bonferroni
from analysis.inference.looks import Look, looks_path, num_looks
from analysis.inference.power import Aim, Noise, aim_of, seeds_for
from analysis.inference.ranges import num_contrasts
from analysis.judgement.sensitivity import MAX_SEEDS as MAX_NAMED
from analysis.judgement.sensitivity import Ladder, holds_for, insensitive, nearest_ladder, sensitivity_by
from analysis.judgement.verdicts import compared_in_words

MAX_SEEDS = 16
OWN_KEYS = {"limit": "2h", "study": "", "seeds": "", "runs_dir": "runs", "dry_run": "false"}


@dataclass(frozen=True)
class CheckPlan:
    """What a check will run, and what it can show.

    Attributes:
        launch: the launcher's arguments.
        checks_dir: where the launcher writes its report, and whose sensitivity counts before the committed one.
        folder: the name of the report in it.
        num_seeds: those of each arm.
        text: printed before the launch.
        blind: why the claim's metrics decide nothing at this scale; empty if they can.
    """

    study: Study
    launch: tuple[str, ...]
    checks_dir: Path
    folder: str
    num_seeds: int
    text: tuple[str, ...]
    blind: str


def plan_check(claim: Claim, own: Mapping[str, str], others: Sequence[str]) -> CheckPlan:
    """Return what to launch: the arms that the claim needs with its controls, and the seeds that show its effects.

    Args:
        own: the values of ``OWN_KEYS``.
        others: arguments that go to the launcher as they are.

    Raises:
        UsageError: the study does not judge the claim, a value is not allowed, or a sensitivity cannot be read.
    """
    base = _base(others)
    study = _study(claim, own["study"], base)
    expectations = study.claims[claim.id]
    needed = {arm for one in expectations for arm in one.arms} | {study.baseline}
    arms = [arm for arm in study.arms if arm in needed]
    baseline = study.arm(study.baseline).change(base)
    checks_dir, folder = Path(own["runs_dir"]) / "checks", _folder(study, base, others)
    ladder = nearest_ladder(checks_dir, baseline)
    look = Look(num_looks(looks_path(Path(own["runs_dir"]), folder)) + 1)
    power = _Power(study, ladder if ladder and holds_for(ladder, baseline) else None, look)
    num_seeds = _num_seeds(own["seeds"], power, expectations, study)
    launched = (
        f"sweep={study.slug}",
        *([f"sweep.arms=[{','.join(arms)}]"] if len(arms) < len(study.arms) else []),
        f"sweep.seeds={num_seeds}",
        f"limit={own['limit']}",
        f"runs_dir={own['runs_dir']}",
        f"reports_dir={checks_dir}",
        *(["dry_run=true"] if own["dry_run"] == "true" else []),
        *others,
    )
    text = (
        f"{claim.id}: {claim.statement}",
        f"Contradicted if {claim.contradicted_if}.",
        f"It takes {len(arms)} of {len(study.arms)} arms of sweep={study.slug} with {num_seeds} seeds, and controls:",
        f"  python sweeps/launch.py {shlex.join(launched)}",
        *(power.text(one, num_seeds) for one in expectations),
        "Each line takes its comparison by itself, at the level of the next look.",
    )
    blind = _blind(expectations, ladder, baseline, checks_dir)
    return CheckPlan(study, launched, checks_dir, folder, num_seeds, text, blind)


def _study(claim: Claim, typed: str, base: RunConfig) -> Study:
    """Return the study that judges the claim, with its arms for these data."""
    slug = typed or claim.studies[0]
    if slug not in claim.studies:
        raise unknown(f"study of {claim.id}", slug, claim.studies)
    study = adapted(STUDIES[slug], base)
    if claim.id not in study.claims:
        raise UsageError(f"sweep={slug} does not judge {claim.id} on these data; leave out data.sources")
    return study


def _blind(expectations: Sequence[Expected], ladder: Ladder | None, baseline: RunConfig, checks_dir: Path) -> str:
    """Return why a metric decides nothing, and where the sensitivity must be; empty if all can."""
    sensitivity = sensitivity_by(ladder, baseline)
    metrics = dict.fromkeys(metric for one in expectations for metric in one.metrics)
    why = next(filter(None, (insensitive(metric, sensitivity, baseline.scale) for metric in metrics)), "")
    return f"{why}. Checks read sensitivity studies in {checks_dir} (reports_dir={checks_dir})" if why else ""


def _base(words: Sequence[str]) -> RunConfig:
    """Return the run that the launcher's arguments describe."""
    kept = [word for word in words if word.partition("=")[0].partition(".")[0] in (*RUN_KEYS, "mixture")]
    values: Mapping[str, Any] = compose(kept, defaults={})
    return resolve(run_config(values))


def _num_seeds(typed: str, power: "_Power", expectations: Sequence[Expected], study: Study) -> int:
    if typed:
        if not typed.isdigit() or int(typed) < 2:
            raise UsageError(f"seeds={typed} must be a whole number of at least 2, without which there is no interval")
        return int(typed)
    known = [seeds for one in expectations if not math.isnan(seeds := power.seeds(one))]
    wanted = max(known, default=0)
    # Where even the most seeds that a text names are too few, those of the study do as well as some more.
    return max(int(min(wanted, MAX_SEEDS)), len(study.seeds)) if wanted <= MAX_NAMED else len(study.seeds)


def _folder(study: Study, base: RunConfig, words: Sequence[str]) -> str:
    typed = [word.partition("=")[2] for word in words if word.startswith("sweep.equal=")]
    equal = next((equal for equal in get_args(Equal) if typed and equal == typed[-1]), study.equal)
    parts = [replace(study, equal=equal).folder, *([base.scale] if base.scale != DEFAULT_SCALE else [])]
    return "_".join(parts)


class _Power:
    """What a study's comparisons can show, at the noise of the sensitivity study and the level of a look."""

    def __init__(self, study: Study, ladder: Ladder | None, look: Look) -> None:
        self._study = study
        self._ladder = ladder
        self._level = bonferroni(len(study.claims), look.level)

    def seeds(self, one: Expected) -> float:
        """Return the seeds that support the relation; NaN if the noise, or a difference to detect, is not known."""
        noise = self._noise(one)
        return math.nan if noise is None else seeds_for(noise, self._aim(one))

    def text(self, one: Expected, num_seeds: int) -> str:
        """Return what the comparison can show with so many seeds."""
        compared, noise, aim = compared_in_words(self._study, one), self._noise(one), self._aim(one)
        if noise is None:
            return f"  {compared}: its noise was not measured"
        shown, what = aim.detectable(noise, num_seeds), self._what(one)
        power = f"{num_seeds} seeds {what} {shown:.3g} with {100 * POWER:.0f} % power"
        if aim.distance > 0:
            seeds = self.seeds(one)
            many = "no number of" if seeds == math.inf else f"more than {MAX_NAMED}"
            power += f"; one of {aim.distance:g} takes {f'{seeds:g}' if seeds <= MAX_NAMED else many} seeds"
        return f"  {compared}, expected {one.relation}: {power}"

    def _what(self, one: Expected) -> str:
        """Return what seeds do to the distance of an aim (``aim_of``)."""
        if one.relation == "far worse" and one.effect is not None:
            return "detect an excess over the margin of"
        does_rule_out = one.relation in ("equal", "not better", "not worse", "far worse")
        return "rule out, if there is none, a difference of" if does_rule_out else "detect a difference of"

    def _aim(self, one: Expected) -> Aim:
        level = self._level
        if isinstance(one, Ranges):
            level = bonferroni(num_contrasts(one.range_arms, one.than_arms), level)
        return aim_of(one.relation, self._study.margin_of(one), one.effect, level)

    def _noise(self, one: Expected) -> Noise | None:
        """Return the two parts of the error; None if the noise was not measured.

        The ladder has that of differences of two arms, whose squared weights add up to 2. Differences of two metrics
        are taken to spread as much as those of arms in the first. Bounds of ranges cover seeds only.
        """
        seen = self._ladder.metrics.get(one.metric) if self._ladder else None
        if seen is None:
            return None
        squares = 4.0 if isinstance(one, Ranges) else 2.0
        if isinstance(one, Combination):
            squares = sum(weight**2 for weight in one.weights.values())
        scale = math.sqrt(squares / 2)
        items = 0.0 if isinstance(one, Ranges) else seen.items_error or 0.0
        return Noise(scale * seen.paired_sd, scale * items)
