"""What all reports together say about each claim of the paper."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from aimv2.ablations.claims import CLAIMS, Claim
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.planner import Price, price_to_decide, seeds_to_decide
from aimv2.analysis.judgement.rules import Word, level_of
from aimv2.analysis.judgement.verdicts import Verdict

NOT_RUN = "not run yet"
OUT_OF_REACH = "beyond reach"  # it needs hardware, data or models that we lack, or a study that does not exist
DISAGREE = "studies disagree"
DECIDED = (Word.SUPPORTED, Word.CONTRADICTED, Word.SMALLER, Word.NEGLIGIBLE)
WORDS = (*DECIDED, DISAGREE, Word.UNDECIDED, Word.NOT_TESTABLE, OUT_OF_REACH, NOT_RUN)  # in the order of summaries


@dataclass(frozen=True, eq=False)
class Answer:
    """What one study says about a claim, or that it has not run yet, or why there is none. ``study`` is empty if none
    judges the claim; ``report`` is the folder of its report, or of one that measures the claim without a verdict."""

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
        if self.study:
            return NOT_RUN
        return str(Word.NOT_TESTABLE) if self.claim.measured_by else OUT_OF_REACH

    @property
    def runs(self) -> tuple[str, ...]:
        """The finished runs behind the verdict."""
        if self.findings is None or self.verdict is None:
            return ()
        arms = {arm for judged in self.verdict.comparisons for arm in judged.expected.arms}
        table = self.findings.evidence.runs
        return tuple(dict.fromkeys(table.loc[table["arm"].isin(arms), "run"]))

    @property
    def seeds_to_decide(self) -> float:
        """About how many seeds decide an undecided claim at the next look; NaN for other verdicts."""
        return math.nan if self.findings is None else seeds_to_decide(self.findings, self.claim.id)

    @property
    def price(self) -> Price | None:
        """What decides an undecided claim; None if it is decided or nothing does it."""
        return None if self.findings is None else price_to_decide(self.findings, self.claim.id)


def answers_of(claim: Claim, findings: Mapping[str, Findings]) -> list[Answer]:
    """Return the answers to a claim, by study in the order of the claim; findings are by the folder of the report."""
    if not claim.studies:
        measured = [name for name, report in findings.items() if report.study.slug in claim.measured_by]
        return [Answer(claim, report=name) for name in measured] or [Answer(claim)]
    answers = []
    for study in claim.studies:
        judged = [
            Answer(claim, study, name, report)
            for name, report in findings.items()
            if report.study.slug == study and claim.id in report.verdicts
        ]
        answers += judged or [Answer(claim, study)]
    return answers


def all_answers(findings: Mapping[str, Findings]) -> dict[str, list[Answer]]:
    """Return the answers to each whole claim and then to its parts, by its id, in the order of the file."""
    return {
        name: [answer for claim in (CLAIMS[name], *parts) for answer in answers_of(claim, findings)]
        for name, parts in whole_claims().items()
    }


def stepped_down(findings: Mapping[str, Findings]) -> Mapping[str, Findings]:
    """Return the findings of all reports, judged again while claims that were decided leave more to the others."""
    num_decided, before = 0, -1
    while num_decided > before:
        before = num_decided
        findings = {name: report.judged_by(partial(level_of, num_decided=before)) for name, report in findings.items()}
        decided = {
            claim.id for claim in CLAIMS.values() for answer in answers_of(claim, findings) if answer.word in DECIDED
        }
        num_decided = len(decided)
    return findings


def by_claim(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    """Return the answers on a claim and on each of its parts, by the id of each."""
    answers_by_claim: dict[str, list[Answer]] = {}
    for answer in answers:
        answers_by_claim.setdefault(answer.claim.id, []).append(answer)
    return answers_by_claim


def overall(answers: Sequence[Answer]) -> str:
    """Return the word for a claim with the answers to it and to its parts.

    Without parts it is that of all answers that decide, or else the one that says most. A part that is decided
    against the claim counts as such, then one that is undecided; those not testable leave the claim as it is.
    """
    whole, *parts = (_of_answers([answer.word for answer in group]) for group in by_claim(answers).values())
    if whole not in (Word.SUPPORTED, Word.UNDECIDED):
        return whole
    against = (DISAGREE, *filter(lambda word: word.is_against, Word), Word.UNDECIDED)
    return next((str(word) for word in against if word in parts), whole)


def _of_answers(words: Collection[str]) -> str:
    """Return the word for a claim without its parts, from the words of its answers."""
    if len(set(words).intersection(DECIDED)) > 1:
        return DISAGREE
    return next(str(word) for word in WORDS if word in words)


def whole_claims() -> dict[str, list[Claim]]:
    """Return the parts of each claim that are judged by themselves, by its id, in the order of the file."""
    parts: dict[str, list[Claim]] = {claim.id: [] for claim in CLAIMS.values() if not claim.part_of}
    for claim in CLAIMS.values():
        if claim.part_of:
            parts[claim.part_of].append(claim)
    return parts
