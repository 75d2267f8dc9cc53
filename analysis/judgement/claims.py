"""What all reports together say about each claim of the paper."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablations.claims import CLAIMS, Claim
from analysis.inference.intervals import Estimate
from analysis.inference.relations import Word
from analysis.judgement.findings import Findings
from analysis.judgement.sensitivity import MAX_SEEDS, seeds_needed
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
        report: the folder of its report; empty if there is none.
        findings: of that report.
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
        """About how many seeds would decide an undecided claim; NaN for other verdicts, infinity beyond 999."""
        if self.findings is None or self.verdict is None or self.verdict.word is not Word.UNDECIDED:
            return math.nan
        study = self.findings.study
        open_ones = [one for one in self.verdict.deciding if one.outcome.word is Word.UNDECIDED]
        return max((seeds_to_decide(one, study.margin_of(one.expected)) for one in open_ones), default=math.nan)


def answers_of(claim: Claim, findings: Mapping[str, Findings]) -> list[Answer]:
    """Return the answers to a claim, by study in the order of the claim, and by report.

    Args:
        findings: by the folder of the report.
    """
    if not claim.studies:
        return [Answer(claim)]
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


def seeds_to_decide(one: Judged, margin: float) -> float:
    """Return about how many seeds show the claimed effect, or rule out the margin, with 80 % power.

    The noise is that of the runs at hand. Ranges have bounds and no error of their own; theirs shrink with the root of
    the seeds.

    Args:
        margin: of the expectation, in its unit.
    """
    size, difference = one.expected.effect or margin, one.difference
    if not difference.has_interval or size <= 0:
        return math.inf
    if isinstance(difference, Estimate):
        return seeds_needed(difference.error * math.sqrt(difference.n), size, difference.level)
    half_width = (difference.high - difference.low) / 2
    seeds = math.ceil(difference.n * (half_width / size) ** 2)
    return max(seeds, 2) if seeds <= MAX_SEEDS else math.inf
