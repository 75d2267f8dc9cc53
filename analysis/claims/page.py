"""The page of all claims of the paper: a verdict on each, or the reason why there is none."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import expand
from aimv2.analysis.claims.paper import paper_section
from aimv2.analysis.document.model import Document, Section, Table, stacked
from aimv2.analysis.document.template import blocks_of
from aimv2.analysis.evidence.recorded_runs import recorded_names
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.inference.relations import Word
from aimv2.analysis.judgement.claims import (
    DECIDED,
    NOT_RUN,
    OUT_OF_REACH,
    WORDS,
    Answer,
    all_answers,
    by_claim,
    overall,
)
from aimv2.analysis.judgement.findings import Findings, findings_in
from aimv2.analysis.judgement.planner import Planner, in_words, planner_of
from aimv2.analysis.judgement.sensitivity import COMMITTED, MAX_SEEDS, read_sensitivity
from aimv2.analysis.judgement.verdicts import compared_in_words
from aimv2.analysis.sections.numbers import estimate, verdict_values
from aimv2.analysis.sections.scaling.agreement import scales_section
from aimv2.analysis.sections.words import in_seeds, seeds_per_arm
from aimv2.config.program import Program
from aimv2.config.recipes.scales import SCALES
from aimv2.request.resolve import resolve

COLUMNS = ["claim", "source", "verdict", "what decides", "scale", "study"]


def claims_document(reports_dir: Path) -> Document:
    """Return the page, from the records beside the reports of all studies; errors as in ``findings_in``.

    A search is no evidence: it was not planned for claims, and another scale has another winner.
    """
    studies = {name: one for name, one in studies_in(reports_dir).items() if not one.study.is_search}
    return document(studies, reports_dir)


def studies_in(reports_dir: Path) -> dict[str, Findings]:
    """Return the findings of all reports with records, by folder."""
    return {name: findings_in(reports_dir, name) for name in recorded_names(reports_dir)}


def document(findings: Mapping[str, Findings], reports_dir: Path = COMMITTED) -> Document:
    """Return the page.

    Args:
        findings: those of all reports, by folder.
        reports_dir: whose sensitivity tells what studies that have not run would see.
    """
    answers = all_answers(findings)
    words = {name: overall(own) for name, own in answers.items()}
    price_of_all = _price_of_undecided(answers, words)
    table = Table(COLUMNS, name="claims", caption=price_of_all)
    beyond = Table(["claim", "source", "what is missing"], name="beyond_reach")
    for name, own in answers.items():
        if words[name] == OUT_OF_REACH:
            claim = own[0].claim
            beyond.rows.append([stacked(f"**{claim.id}**", claim.statement), claim.source, claim.why_not])
        else:
            table.rows.extend(_rows(own, words[name], reports_dir))
    scales = scales_section(findings.values())
    return Document(
        title="Which claims of the papers hold here?",
        subtitle="[Reports](../index.md) · claims",
        answer=summary_of(words),
        sections=[Section("Verdicts", [table])],
        details=[
            Section("How to read this page", blocks_of("claims_reading")),
            Section("Claims beyond reach", [beyond]),
            paper_section(findings),
            *([scales] if scales else []),
        ],
        numbers={"claims": {name: _numbers(own, words[name]) for name, own in answers.items()}},
    )


def summary_of(words: Mapping[str, str]) -> str:
    """Return how many claims have each verdict, and the names of those that are decided."""
    named = {word: [name for name, found in words.items() if found == word] for word in WORDS}
    parts = [
        f"{len(names)} *{word}*" + (f" ({', '.join(names)})" if word in DECIDED else "")
        for word, names in named.items()
        if names
    ]
    return f"Of {len(words)} claims: {'; '.join(parts)}."


def _rows(answers: Sequence[Answer], word: str, reports_dir: Path) -> list[list[str]]:
    """Return the rows of a claim: one for each study with a report, or one for all that have none.

    A study that could not test it has none beside one that could, and those with the verdict of all come first. Seeds
    and price stand at the study that decides an undecided claim, or a part of it, in the fewest hours, or at all of
    them, with the reason, if none does.

    Args:
        word: the verdict of all studies together.
    """
    pending = tuple(line for one in answers if one.verdict is None for line in _study(one))
    decided = [one for one in answers if one.verdict is not None]
    tested = {one.claim.id for one in decided if one.word != Word.NOT_TESTABLE}
    decided = [one for one in decided if one.word != Word.NOT_TESTABLE or one.claim.id not in tested]
    if not decided:
        return [_row(answers[0], word, pending, _outlook(answers, reports_dir), is_first=True)]
    decided.sort(key=lambda one: (bool(one.claim.part_of), one.word != word))
    parts = by_claim(decided).values() if word == Word.UNDECIDED else ()
    priced = [one for own in parts for one in _cheapest(own)]
    return [
        _row(one, word, _study(one), _reasons(one, is_priced=one in priced), is_first=not number)
        for number, one in enumerate(decided)
    ]


def _cheapest(answers: Sequence[Answer]) -> list[Answer]:
    """Return the answer that decides a claim in the fewest hours; all if none does."""
    known = [(more, number) for number, one in enumerate(answers) if (more := _price_of_more(one))]
    return [answers[min(known)[1]]] if known else list(answers)


def _row(answer: Answer, word: str, studies: tuple[str, ...], reasons: tuple[str, ...], *, is_first: bool) -> list[str]:
    claim = answer.claim
    name = f"**{claim.id}**" if is_first else f"{claim.id}{', a part of the claim' if claim.part_of else ''}"
    own = answer.word if answer.word == word or not is_first else f"{answer.word} (with all studies and parts: {word})"
    return [
        stacked(*(name, claim.statement) if is_first or claim.part_of else (name,)),
        claim.source if is_first or claim.part_of else "",
        stacked(f"**{own}**", *reasons),
        _intervals(answer),
        _scale(answer),
        stacked(*studies),
    ]


def _intervals(answer: Answer) -> str:
    """Return the first difference that decides, with its interval, how many others do; a note has all comparisons."""
    if answer.findings is None or answer.verdict is None:
        return ""
    each = [
        (f"{compared_in_words(answer.findings.study, one.expected)}: {one.difference.text()}", one.difference.basis)
        for one in answer.verdict.comparisons
    ]
    num_more = len(answer.verdict.deciding) - 1
    more = [f"and {num_more} more"] if num_more > 0 else []
    return stacked(*(text for text, _ in each[:1]), *more)


def _reasons(answer: Answer, *, is_priced: bool) -> tuple[str, ...]:
    """Return what qualifies a verdict first, how many seeds decide it and their price; its report has the rest."""
    if answer.verdict is None:
        return ()
    more = _price_of_more(answer) if is_priced else None
    seeds = in_words(answer.seeds_to_decide) if is_priced else ""
    shown = f"{more.num_runs:,.0f} more runs, {more.hours:.1f} hours." if more else ""
    return tuple(filter(None, (*answer.verdict.qualifications[:1], seeds, shown)))


class More(NamedTuple):
    """What decides an undecided claim: the seeds of its study in all, and the runs and hours of those that it lacks."""

    hours: float
    num_runs: float
    num_seeds: float


def _price_of_more(answer: Answer) -> More | None:
    """Return what decides a claim, at the mean cost of a seed of each arm; None if it is decided or nothing does it."""
    if answer.findings is None or not answer.seeds_to_decide <= MAX_SEEDS:
        return None
    seconds = answer.findings.evidence.runs.groupby("arm")["seconds"]
    lacking = (answer.seeds_to_decide - seconds.size()).clip(lower=0)
    if not lacking.any():
        return None
    return More((lacking * seconds.mean()).sum() / 3600, lacking.sum(), answer.seeds_to_decide)


def _price_of_undecided(answers: Mapping[str, Sequence[Answer]], words: Mapping[str, str]) -> str:
    """Return what decides the claims that are undecided, each by the studies that take the fewest hours.

    A claim with parts takes all those that are undecided.
    """
    undecided = [by_claim(own) for name, own in answers.items() if words[name] == Word.UNDECIDED]
    priced = [
        [_price_of_more(_cheapest(own)[0]) for own in parts.values() if overall(own) == Word.UNDECIDED]
        for parts in undecided
    ]
    known = [[one for one in prices if one] for prices in priced if prices and all(prices)]
    if not known:
        return ""
    every = [one for prices in known for one in prices]
    fewest, most = min(one.num_seeds for one in every), max(one.num_seeds for one in every)
    seeds = f"{fewest:g} to {most:g} seeds each" if fewest < most else f"{most:g} seeds"
    return (
        f"To decide {len(known)} of the undecided claims takes {seeds}, and at most"
        f" {sum(one.num_runs for one in every):,.0f} more runs of {sum(one.hours for one in every):,.0f} hours."
    )


def _outlook(answers: Sequence[Answer], reports_dir: Path) -> tuple[str, ...]:
    """Return why a claim has no verdict: what it lacks, or for each study that has not run what it would see."""
    claim, studies = answers[0].claim, dict.fromkeys(one.study for one in answers if one.study)
    if claim.why_not:
        return (claim.why_not,)
    planners = {slug: planned(claim.id, slug, reports_dir) for slug in studies if claim.id in STUDIES[slug].claims}
    return tuple(f"{slug}: {one.blind or in_words(one.seeds)}" for slug, one in planners.items())


def planned(claim: str, slug: str, reports_dir: Path) -> Planner:
    """Return the planner of a claim for the first look at a study at its own scale."""
    study, base = STUDIES[slug], _base(slug)
    baseline = study.arm(study.baseline).change(base)
    return planner_of(study, claim, Look(1).level, read_sensitivity(reports_dir, baseline))


def _base(slug: str) -> Program:
    """Return the base run of a study on the CPU, so that the page is the same on all machines."""
    return resolve(SCALES[STUDIES[slug].scale](), available="cpu")


def _scale(answer: Answer) -> str:
    """Return scale and seeds of a verdict, and what is unusual: arms at equal FLOPs, another look than the first."""
    if answer.findings is None or answer.verdict is None:
        return ""
    seeds = [one.difference.n for one in answer.verdict.deciding if one.difference.n]
    fewest, most = (min(seeds), min(seeds)) if seeds else seeds_per_arm(answer.findings.evidence)
    equal, look = answer.findings.study.equal, answer.findings.look.number
    unusual = [f"equal {equal}"] * (equal != "samples") + [f"look {look}"] * (look > 1)
    return ", ".join([answer.findings.config.label, in_seeds(fewest, most), *unusual])


def _study(answer: Answer) -> tuple[str, ...]:
    """Return the report of a study with what it measures if it gives no verdict, or the study's price."""
    measured = tuple(answer.claim.measured_by.values())
    if answer.report:
        return (f"[{answer.report}](../{answer.report}/report.md)", *measured)
    if not answer.study:
        return tuple(f"{name}, {NOT_RUN}: {what}" for name, what in answer.claim.measured_by.items())
    num_runs, flops = price(answer.study)
    scale = STUDIES[answer.study].scale
    seeds = len(STUDIES[answer.study].seeds)
    return (answer.study, f"{seeds} seeds: {num_runs} runs at {scale}, at most {flops:.2g} training FLOPs")


@cache
def price(slug: str) -> tuple[int, float]:
    """Return the runs of a study at its own scale, and an upper bound of their training FLOPs."""
    cells = expand(STUDIES[slug], _base(slug))
    return len(cells), float(sum(cell.config.price(lambda run: None).flops for cell in cells))


def _numbers(answers: Sequence[Answer], word: str) -> dict[str, Any]:
    return {
        "verdict": word,
        "answers": [
            {
                "claim": one.claim.id,
                "study": one.study,
                "report": one.report,
                "verdict": one.word,
                "why_not": one.claim.why_not,
                "seeds_to_decide": one.seeds_to_decide,
                "runs": list(one.runs),
                **({} if one.verdict is None else verdict_values(one.verdict) | {"comparisons": _comparisons(one)}),
            }
            for one in answers
        ],
    }


def _comparisons(answer: Answer) -> list[dict[str, Any]]:
    """Return the comparisons behind a verdict, each an estimate with what was expected of it."""
    if answer.findings is None or answer.verdict is None:
        return []
    study, evidence = answer.findings.study, answer.findings.evidence
    return [
        {
            "compared": compared_in_words(study, one.expected),
            "expected": one.expected.relation,
            "outcome": one.outcome.word,
            **estimate(one.difference, evidence.unit(one.expected.metric)),
        }
        for one in answer.verdict.comparisons
    ]
