"""What all reports together say about each claim of the paper."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ablations.claims import CLAIMS, Claim
from ablations.expectations import Ranges
from ablations.study import Study
from analysis.inference.intervals import Estimate, bonferroni
from analysis.inference.power import Noise, aim_of, seeds_for
from analysis.inference.ranges import num_contrasts
from analysis.inference.relations import Word
from analysis.judgement.findings import Findings
from analysis.judgement.sensitivity import MAX_SEEDS
from analysis.judgement.verdicts import Judged, Verdict

NOT_RUN = "not run yet"
DISAGREE = "studies disagree"
DECIDED = (Word.SUPPORTED, Word.CONTRADICTED, Word.SMALLER)
WORDS = (*DECIDED, DISAGREE, Word.UNDECIDED, Word.NOT_TESTABLE, NOT_RUN)  # in the order of summaries


@dataclass(frozen=True, eq=False)
class Answer:
    """What one study says about a claim, or that it has not run yet, or why there is none.

    Attributes:
        study: its name; empty if no study judges the claim.
        report: the folder of its report, or of one that measures the claim without a verdict; empty if there is none.
        findings: of its report.
    """

    claim: Claim
    study: str = ""
    report: str = ""
    findings: Findings | None = None

    @property
    def verdict(self) -> Verdict | None:
        return None if self.findings is None else self.findings.verdicts[self.claim.id]

    @property
    def word(self) -> str:
        """The verdict in a word or two."""
        if self.verdict is not None:
            return str(self.verdict.word)
        return NOT_RUN if self.study else str(Word.NOT_TESTABLE)

    @property
    def runs(self) -> tuple[str, ...]:
        """The finished runs behind the verdict."""
        if self.findings is None or self.verdict is None:
            return ()
        arms = {arm for one in self.verdict.deciding for arm in one.expected.arms}
        table = self.findings.evidence.runs
        return tuple(dict.fromkeys(table.loc[table["arm"].isin(arms), "run"]))

    @property
    def seeds_to_decide(self) -> float:
        """About how many seeds would decide an undecided claim (``seeds_of``); NaN for other verdicts."""
        if self.findings is None or self.verdict is None:
            return math.nan
        return seeds_of(self.verdict, self.findings.study)


def answers_of(claim: Claim, findings: Mapping[str, Findings]) -> list[Answer]:
    """Return the answers to a claim, by study in the order of the claim, and by report.

    Args:
        findings: by the folder of the report.
    """
    if not claim.studies:
        measured = [name for name, one in findings.items() if one.study.slug in claim.measured_by]
        return [Answer(claim, report=name) for name in measured] or [Answer(claim)]
    answers = []
    for study in claim.studies:
        own = {name: one for name, one in findings.items() if one.study.slug == study and claim.id in one.verdicts}
        answers += [Answer(claim, study, name, one) for name, one in own.items()] or [Answer(claim, study)]
    return answers


def overall(answers: Sequence[Answer]) -> str:
    """Return the word for a claim of several answers: that of all that decide, or else the one that says most."""
    words = {answer.word for answer in answers}
    if len(words.intersection(DECIDED)) > 1:
        return DISAGREE
    return next(str(word) for word in WORDS if word in words)


def whole_claims() -> dict[str, list[Claim]]:
    """Return the parts of each claim that are judged by themselves, by its id, in the order of the file."""
    parts: dict[str, list[Claim]] = {claim.id: [] for claim in CLAIMS.values() if not claim.part_of}
    for claim in CLAIMS.values():
        if claim.part_of:
            parts[claim.part_of].append(claim)
    return parts


def seeds_of(verdict: Verdict, study: Study) -> float:
    """Return about how many seeds each open comparison of an undecided verdict takes at most (``seeds_to_decide``).

    Returns:
        Infinity if no number of seeds decides one of them; NaN if the verdict is not undecided, or one is not known.
    """
    if verdict.word is not Word.UNDECIDED:
        return math.nan
    open_ones = [one for one in verdict.deciding if one.outcome.word is Word.UNDECIDED]
    each = [seeds_to_decide(one, study.margin_of(one.expected)) for one in open_ones]
    return math.inf if math.inf in each else float(np.max(each)) if each else math.nan


def seeds_in_words(seeds: float) -> str:
    """Return a sentence about the seeds that would decide; empty if they are not known."""
    if math.isnan(seeds):
        return ""
    if math.isinf(seeds):
        return "No number of seeds decides it: the error from the choice of evaluation items alone is too large."
    return (
        f"More than {MAX_SEEDS} seeds are needed." if seeds > MAX_SEEDS else f"About {seeds:g} seeds would decide it."
    )


def seeds_to_decide(one: Judged, margin: float) -> float:
    """Return about how many seeds support the relation with 80 % power, as if the comparison stood alone.

    The noise is that of the runs at hand. More seeds are another look, which has half the error rate of this one.
    ``aim_of`` says which true difference is meant.

    Args:
        margin: of the expectation, in its unit.

    Returns:
        Infinity if no number suffices, because the items' part of the error alone is too large; NaN without an
        interval, or without a difference to detect.
    """
    difference, expected = one.difference, one.expected
    if not difference.has_interval:
        return math.nan
    level = 1 - (1 - difference.level) / 2
    if isinstance(difference, Estimate):
        return seeds_for(Noise.of(difference), aim_of(expected.relation, margin, expected.effect, level))
    assert isinstance(expected, Ranges)
    num = num_contrasts(expected.range_arms, expected.than_arms)
    aim = aim_of(expected.relation, margin, expected.effect, bonferroni(num, level))
    # Bounds have no error of their own. That of a contrast whose interval is as wide is taken, at many degrees of
    # freedom, where it is largest.
    half_width = (difference.high - difference.low) / 2
    error = half_width / float(stats.norm.isf((1 - bonferroni(num, difference.level)) / 2))
    return seeds_for(Noise(error * math.sqrt(difference.n)), aim)
