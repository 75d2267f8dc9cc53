"""What all reports together say about each claim of the paper."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from aimv2.ablations.claims import CLAIMS, Claim
from aimv2.analysis.inference.intervals import Estimate
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.inference.power import Noise, seeds_for
from aimv2.analysis.inference.relations import Word
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.planner import planner_of
from aimv2.analysis.judgement.verdicts import Verdict

NOT_RUN = "not run yet"
OUT_OF_REACH = "beyond reach"  # it needs hardware, data or models that we lack, or a study that does not exist
DISAGREE = "studies disagree"
DECIDED = (Word.SUPPORTED, Word.CONTRADICTED, Word.SMALLER)
WORDS = (*DECIDED, DISAGREE, Word.UNDECIDED, Word.NOT_TESTABLE, OUT_OF_REACH, NOT_RUN)  # in the order of summaries


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
        if self.study:
            return NOT_RUN
        return str(Word.NOT_TESTABLE) if self.claim.measured_by else OUT_OF_REACH

    @property
    def runs(self) -> tuple[str, ...]:
        """The finished runs behind the verdict."""
        if self.findings is None or self.verdict is None:
            return ()
        arms = {arm for one in self.verdict.comparisons for arm in one.expected.arms}
        table = self.findings.evidence.runs
        return tuple(dict.fromkeys(table.loc[table["arm"].isin(arms), "run"]))

    @property
    def seeds_to_decide(self) -> float:
        """About how many seeds decide an undecided claim at the next look; NaN for other verdicts.

        The noise is the larger of that of the sensitivity study, which may have no arm as noisy as those of the claim,
        and that of the differences here.
        """
        if self.findings is None or self.verdict is None or self.verdict.word is not Word.UNDECIDED:
            return math.nan
        found = self.findings
        level = Look(found.look.number + 1).level
        planner = planner_of(found.study, self.claim.id, level, found.sensitivity)
        known = [
            seeds_for(Noise.of(one.difference), planner.aim(one.expected))
            for one in self.verdict.comparisons
            if isinstance(one.difference, Estimate) and one.difference.has_interval
        ]
        return max((seeds for seeds in (planner.seeds, *known) if not math.isnan(seeds)), default=math.nan)


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


def all_answers(findings: Mapping[str, Findings]) -> dict[str, list[Answer]]:
    """Return the answers to each whole claim and then to its parts, by its id, in the order of the file.

    Args:
        findings: as in ``answers_of``.
    """
    return {
        name: [answer for one in (CLAIMS[name], *parts) for answer in answers_of(one, findings)]
        for name, parts in whole_claims().items()
    }


def by_claim(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    """Return the answers on a claim and on each of its parts, by the id of each."""
    found: dict[str, list[Answer]] = {}
    for one in answers:
        found.setdefault(one.claim.id, []).append(one)
    return found


def overall(answers: Sequence[Answer]) -> str:
    """Return the word for a claim with the answers to it and to its parts.

    Without parts it is that of all answers that decide, or else the one that says most. A claim with parts holds with
    all of them: one that is contradicted, or smaller than claimed, contradicts it, and it is undecided while one is
    undecided. Parts that are not testable leave it as it is.
    """
    by_claim: dict[str, set[str]] = {}
    for answer in answers:
        by_claim.setdefault(answer.claim.id, set()).add(answer.word)
    own, *parts = (_of_answers(words) for words in by_claim.values())
    if own not in (Word.SUPPORTED, Word.UNDECIDED):
        return own
    against = (DISAGREE, Word.CONTRADICTED, Word.SMALLER, Word.UNDECIDED)
    return next((str(word) for word in against if word in parts), own)


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
