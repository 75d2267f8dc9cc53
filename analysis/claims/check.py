"""python analysis/report.py check CLAIM: run what a claim needs, and print the verdict in a sentence."""

import itertools
import math
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from ablations.adapt import adapted
from ablations.budget import Equal
from ablations.catalogue import STUDIES
from ablations.claims import CLAIMS, Claim
from ablations.expectations import Combination, Expected, Ranges
from ablations.request import DEFAULT_SCALE
from ablations.study import Study
from aimv2.config.arguments import HELP, key_values
from aimv2.config.compose import RUN_KEYS, compose, run_config
from aimv2.config.resolve import resolve
from aimv2.config.run_config import RunConfig
from aimv2.errors import UsageError, unknown
from analysis.claims.reports import findings_in
from analysis.inference.intervals import POWER, Estimate, bonferroni, detectable_difference
from analysis.inference.looks import Look
from analysis.inference.ranges import num_contrasts
from analysis.inference.relations import Word
from analysis.judgement.claims import seeds_to_decide
from analysis.judgement.sensitivity import (
    Ladder,
    holds_for,
    insensitive,
    nearest_ladder,
    read_sensitivity,
    seeds_needed,
)
from analysis.judgement.verdicts import Verdict, compared_in_words

USAGE = """usage: python analysis/report.py check CLAIM [limit=2h] [key=value ...]
       python analysis/report.py check --list

Execute the runs that a claim of the paper needs and that are missing, and print the verdict on it.

  --list                       list the claims by table of the paper
  limit=2h                     refuse runs that cost more: time, FLOPs or disk space, as sweeps/launch.py has it
  study=NAME                   the study that judges the claim; the default is the first that --list names
  seeds=8                      number of seeds; the default is what the sensitivity study asks for, at most 16
  runs_dir=runs                the folder of the runs; the report goes to checks/ in it
  reports_dir=reports          the folder of the reports whose sensitivity counts
  dry_run=true                 only print the plan and its price
  scale=demo, data.sources=…   any other argument of sweeps/launch.py

The exit status is 0 if the claim is supported, 1 if it is contradicted or its effect is smaller than claimed, 3 if it
is undecided, not run or not testable, and 2 for bad input or a limit that is too low.
"""

LAUNCHER = Path(__file__).parents[2] / "sweeps" / "launch.py"
MAX_SEEDS = 16
STATUS = {Word.SUPPORTED: 0, Word.CONTRADICTED: 1, Word.SMALLER: 1, Word.UNDECIDED: 3, Word.NOT_TESTABLE: 3}
OWN_KEYS = {"limit": "2h", "study": "", "seeds": "", "runs_dir": "runs", "reports_dir": "reports", "dry_run": "false"}

SUBMITTED = "The runs are submitted; type the same command again when they are done."

Launch = Callable[[Sequence[str]], int]  # from the launcher's arguments to its exit status


def launch(arguments: Sequence[str]) -> int:
    """Run the launcher in a process of its own and return its exit status."""
    return subprocess.run([sys.executable, str(LAUNCHER), *arguments], check=False).returncode


def check(arguments: Sequence[str], launch: Launch = launch) -> int:
    """Carry out the command and return its exit status.

    Raises:
        UsageError: the claim, the study or a value does not exist.
    """
    if not arguments or {"--list", *HELP} & set(arguments):
        print(listed() if "--list" in arguments and not HELP & set(arguments) else USAGE, end="")
        return 0 if arguments else 2
    name, words = arguments[0], arguments[1:]
    if name not in CLAIMS:
        raise unknown("claim", name, CLAIMS)
    claim, own, others = CLAIMS[name], *_split(words)
    if claim.why_not:
        print(f"{name} is not testable here. {claim.why_not}")
        return STATUS[Word.NOT_TESTABLE]
    plan = plan_check(claim, own, others)
    print("\n".join(plan.text))
    if plan.blind:
        print(f"{name} is not testable at this scale: {plan.blind}")
        return STATUS[Word.NOT_TESTABLE]
    if status := launch(plan.launch):
        return 3 if status == 1 else status  # a run failed, so nothing is concluded
    if own["dry_run"] == "true" or "executor=slurm" in others:
        print(f"{name} is undecided: nothing was run yet" if own["dry_run"] == "true" else SUBMITTED)
        return STATUS[Word.UNDECIDED]
    verdict = findings_in(plan.reports_dir, plan.folder).verdicts[name]
    print(sentence(claim, plan.study, verdict))
    return STATUS[verdict.word]


def listed() -> str:
    """Return the claims by source, each with the studies that judge it, or why none does."""
    lines = []
    for source, claims in itertools.groupby(CLAIMS.values(), lambda claim: claim.source):
        lines.append(source)
        for claim in claims:
            judged = f"studies: {', '.join(claim.studies)}" if claim.studies else f"not testable here: {claim.why_not}"
            lines += [f"  {claim.id}", f"      {claim.statement}", f"      {judged}"]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class CheckPlan:
    """What a check will run, and what it can show.

    Attributes:
        launch: the launcher's arguments.
        folder: the name of the report that the launch writes into ``reports_dir``.
        text: what is said beforehand.
        blind: why the claim's metrics decide nothing at this scale; empty if they can.
    """

    study: Study
    launch: tuple[str, ...]
    reports_dir: Path
    folder: str
    text: tuple[str, ...]
    blind: str


def plan_check(claim: Claim, own: Mapping[str, str], others: Sequence[str]) -> CheckPlan:
    """Return what to launch: the arms that the claim needs with its controls, and the seeds that show its effects.

    Args:
        own: the values of ``OWN_KEYS``.
        others: arguments that go to the launcher as they are.
    """
    slug = own["study"] or claim.studies[0]
    if slug not in claim.studies:
        raise unknown(f"study of {claim.id}", slug, claim.studies)
    base = _base(others)
    study = adapted(STUDIES[slug], base)
    if claim.id not in study.claims:
        raise UsageError(f"sweep={slug} does not judge {claim.id} on these data; leave out data.sources")
    expectations = study.claims[claim.id]
    needed = {arm for one in expectations for arm in one.arms} | {study.baseline}
    arms = [arm for arm in study.arms if arm in needed]
    baseline = study.arm(study.baseline).change(base)
    reports_dir, sensitivity = Path(own["reports_dir"]), read_sensitivity(Path(own["reports_dir"]), baseline)
    metrics = dict.fromkeys(metric for one in expectations for metric in one.metrics)
    blind = next(filter(None, (insensitive(metric, sensitivity, base.scale) for metric in metrics)), "")
    ladder = nearest_ladder(reports_dir, baseline)
    noise = _Noise(study, ladder if ladder and holds_for(ladder, baseline) else None)
    num_seeds = _num_seeds(own["seeds"], noise, expectations, study)
    checks = Path(own["runs_dir"]) / "checks"
    launched = (
        f"sweep={slug}",
        f"sweep.arms=[{','.join(arms)}]",
        f"sweep.seeds={num_seeds}",
        f"limit={own['limit']}",
        f"runs_dir={own['runs_dir']}",
        f"reports_dir={checks}",
        *(["dry_run=true"] if own["dry_run"] == "true" else []),
        *others,
    )
    text = (
        f"{claim.id}: {claim.statement}",
        f"Contradicted if {claim.contradicted_if}.",
        f"It takes {len(arms)} of {len(study.arms)} arms of sweep={slug} with {num_seeds} seeds, and controls:",
        f"  python sweeps/launch.py {shlex.join(launched)}",
        *(noise.text(one, num_seeds) for one in expectations),
        "These are numbers for two arms by themselves; several arms pool their error and need at most as many seeds.",
    )
    return CheckPlan(study, launched, checks, _folder(study, base, others), text, blind)


def sentence(claim: Claim, study: Study, verdict: Verdict) -> str:
    """Return a verdict in a sentence, with the comparisons that decide below it."""
    why = f" ({'; '.join(verdict.qualifications)})" if verdict.qualifications else ""
    seeds = [
        seeds_to_decide(one, study.margin_of(one.expected))
        for one in verdict.deciding
        if one.outcome.word is Word.UNDECIDED
    ]
    more = ""
    if verdict.word is Word.UNDECIDED and seeds:
        more = f" About {max(seeds):g} seeds would decide it." if max(seeds) < math.inf else " Over 999 seeds would."
    if verdict.word is Word.SMALLER:
        more = " No effect is detected, and the published one is ruled out; the exit status is that of a contradiction."
    return "\n".join([f"{claim.id} is {verdict.word}{why}.{more}", *(f"  {line}" for line in verdict.evidence)])


def _split(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the command's own values and the arguments of the launcher."""
    mine = [word for word in words if word.partition("=")[0] in OWN_KEYS]
    own = OWN_KEYS | key_values(mine, OWN_KEYS)
    if own["dry_run"] not in ("true", "false"):
        raise UsageError(f"dry_run={own['dry_run']} must be true or false")
    others = [word for word in words if word not in mine]
    if taken := [word for word in others if word.startswith(("sweep=", "sweep.arms=", "sweep.seeds=", "detach="))]:
        raise UsageError(f"{taken[0]} is set by the claim; type study=NAME or seeds=N, or use sweeps/launch.py")
    return own, others


def _base(words: Sequence[str]) -> RunConfig:
    """Return the run that the launcher's arguments describe."""
    kept = [word for word in words if word.partition("=")[0].partition(".")[0] in (*RUN_KEYS, "mixture")]
    values: Mapping[str, Any] = compose(kept, defaults={})
    return resolve(run_config(values))


def _num_seeds(typed: str, noise: "_Noise", expectations: Sequence[Expected], study: Study) -> int:
    if typed:
        if not typed.isdigit() or int(typed) < 2:
            raise UsageError(f"seeds={typed} must be a whole number of at least 2, without which there is no interval")
        return int(typed)
    wanted = max((noise.seeds(one) for one in expectations), default=math.inf)
    at_most = MAX_SEEDS if wanted < math.inf else len(study.seeds)
    return max(int(min(wanted, at_most)), len(study.seeds))


def _folder(study: Study, base: RunConfig, words: Sequence[str]) -> str:
    """Return the name of the launch's report."""
    typed = [word.partition("=")[2] for word in words if word.startswith("sweep.equal=")]
    equal = next((equal for equal in get_args(Equal) if typed and equal == typed[-1]), study.equal)
    parts = [replace(study, equal=equal).folder, *([base.scale] if base.scale != DEFAULT_SCALE else [])]
    return "_".join(parts)


class _Noise:
    """What the sensitivity study says about the noise of a study's comparisons, at the level of a first look."""

    def __init__(self, study: Study, ladder: Ladder | None) -> None:
        self._study = study
        self._ladder = ladder
        self._level = bonferroni(len(study.claims), Look(1).level)

    def seeds(self, one: Expected) -> float:
        """Return the seeds that show the claimed effect, or else the margin; infinity if they are not known."""
        sd, size = self._sd(one), self._size(one)
        return math.inf if math.isnan(sd) else seeds_needed(sd, size, self._level_of(one))

    def text(self, one: Expected, num_seeds: int) -> str:
        """Return what the comparison can show with so many seeds."""
        compared, sd = compared_in_words(self._study, one), self._sd(one)
        if math.isnan(sd):
            return f"  {compared}: its noise was not measured"
        estimate = Estimate(0.0, sd / math.sqrt(num_seeds), num_seeds - 1, num_seeds, self._level_of(one))
        shown, seeds = detectable_difference(estimate), self.seeds(one)
        what = "the claimed effect" if one.effect else "the margin"
        enough = "over 999 seeds" if seeds == math.inf else f"{seeds:g} seeds"
        return (
            f"  {compared}: {num_seeds} seeds detect {shown:.3g} with {100 * POWER:.0f} % power; {what} of"
            f" {self._size(one):g} takes {enough}"
        )

    def _size(self, one: Expected) -> float:
        return one.effect or self._study.margin_of(one)

    def _level_of(self, one: Expected) -> float:
        if isinstance(one, Ranges):
            return bonferroni(num_contrasts(one.range_arms, one.than_arms), self._level)
        return self._level

    def _sd(self, one: Expected) -> float:
        """Return the standard deviation over seeds; NaN if it was not measured.

        The ladder has that of differences of two arms, whose squared weights add up to 2. Differences of two metrics
        are taken to spread as much as those of arms in the first.
        """
        seen = self._ladder.metrics.get(one.metric) if self._ladder else None
        if seen is None:
            return math.nan
        squares = 4.0 if isinstance(one, Ranges) else 2.0
        if isinstance(one, Combination):
            squares = sum(weight**2 for weight in one.weights.values())
        return seen.paired_sd * math.sqrt(squares / 2)
