"""The page of all claims of the paper: a verdict on each, or the reason why there is none, and the paper's tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aimv2.ablations.claims import PaperTable, Row, paper_tables
from aimv2.ablations.expectations import PROBE
from aimv2.ablations.recorded_runs import recorded_names
from aimv2.analysis.document.model import Document, Paragraph, Section, Table, stacked
from aimv2.analysis.document.template import blocks_of
from aimv2.analysis.inference.intervals import Estimate, with_interval
from aimv2.analysis.judgement.claims import (
    DECIDED,
    NOT_RUN,
    OUT_OF_REACH,
    WORDS,
    Answer,
    all_answers,
    by_claim,
    overall,
    stepped_down,
)
from aimv2.analysis.judgement.findings import Findings, findings_in
from aimv2.analysis.judgement.planner import in_words
from aimv2.analysis.judgement.rules import RULES_SINCE, Word
from aimv2.analysis.judgement.verdicts import compared_in_words
from aimv2.analysis.sections.agreement import scales_section
from aimv2.analysis.sections.tables import estimate, in_seeds, seeds_per_arm, verdict_values

COLUMNS = ["claim", "source", "verdict", "what decides", "scale", "study"]
PAPER_TABLES = (
    "Published numbers are single runs, in per cent, at another scale and on other data than ours. In brackets is the"
    " difference from the reference row in points. Ours are means over seeds with 95 % intervals."
)


def claims_document(reports_dir: Path) -> Document:
    """Return the page, from the records beside the reports of all studies but searches, which were not planned for
    claims; errors as in ``findings_in``."""
    studies = {name: report for name, report in studies_in(reports_dir).items() if not report.study.is_search}
    return document(studies)


def studies_in(reports_dir: Path) -> Mapping[str, Findings]:
    """Return the findings of all reports with records, by folder, as the page of claims judges them."""
    return stepped_down({name: findings_in(reports_dir, name) for name in recorded_names(reports_dir)})


def document(findings: Mapping[str, Findings]) -> Document:
    """Return the page of the findings of all reports, by folder."""
    answers = all_answers(findings)
    words = {name: overall(of_claim) for name, of_claim in answers.items()}
    table = Table(COLUMNS, name="claims")
    beyond = Table(["claim", "source", "what is missing"], name="beyond_reach")
    for name, of_claim in answers.items():
        if words[name] == OUT_OF_REACH:
            claim = of_claim[0].claim
            beyond.rows.append([stacked(f"**{claim.id}**", claim.statement), claim.source, claim.why_not])
        else:
            table.rows.extend(_rows(of_claim, words[name]))
    scales = scales_section(findings.values())
    published = [_paper_table(paper_table, findings) for paper_table in paper_tables()]
    return Document(
        title="Which claims of the papers hold here?",
        subtitle="[Reports](../index.md) · claims",
        answer=summary_of(words),
        sections=[Section("Verdicts", [table])],
        details=[
            Section("How to read this page", blocks_of("claims_reading", rules_since=RULES_SINCE)),
            Section("Claims beyond reach", [beyond]),
            Section("The paper's tables beside ours", [Paragraph(PAPER_TABLES), *published]),
            *([scales] if scales else []),
        ],
        numbers={"claims": {name: _numbers(of_claim, words[name]) for name, of_claim in answers.items()}},
    )


def summary_of(words: Mapping[str, str]) -> str:
    """Return how many claims have each verdict, and the names of those that are decided."""
    named = {word: [name for name, of_claim in words.items() if of_claim == word] for word in WORDS}
    parts = [
        f"{len(names)} *{word}*" + (f" ({', '.join(names)})" if word in DECIDED else "")
        for word, names in named.items()
        if names
    ]
    return f"Of {len(words)} claims: {'; '.join(parts)}."


def _rows(answers: Sequence[Answer], word: str) -> list[list[str]]:
    """Return the rows of a claim whose verdict by all studies is ``word``: one for each study with a report, those with
    the verdict of all first and without those that could not test it beside one that could, or one for all without.
    Seeds and price stand at the study that decides an undecided claim, or a part of it, in the fewest hours."""
    pending = tuple(line for answer in answers if answer.verdict is None for line in _study(answer))
    decided = [answer for answer in answers if answer.verdict is not None]
    tested = {answer.claim.id for answer in decided if answer.word != Word.NOT_TESTABLE}
    decided = [answer for answer in decided if answer.word != Word.NOT_TESTABLE or answer.claim.id not in tested]
    if not decided:
        return [_row(answers[0], word, pending, tuple(filter(None, [answers[0].claim.why_not])), is_first=True)]
    decided.sort(key=lambda answer: (bool(answer.claim.part_of), answer.word != word))
    parts = by_claim(decided).values() if word == Word.UNDECIDED else ()
    priced = [answer for part in parts for answer in _cheapest(part)]
    return [
        _row(answer, word, _study(answer), _reasons(answer, is_priced=answer in priced), is_first=not number)
        for number, answer in enumerate(decided)
    ]


def _cheapest(answers: Sequence[Answer]) -> list[Answer]:
    """Return the answer that decides a claim in the fewest hours; all if none does."""
    known = [(answer.price, number) for number, answer in enumerate(answers) if answer.price]
    return [answers[min(known)[1]]] if known else list(answers)


def _row(answer: Answer, word: str, studies: tuple[str, ...], reasons: tuple[str, ...], *, is_first: bool) -> list[str]:
    claim = answer.claim
    name = f"**{claim.id}**" if is_first else f"{claim.id}{', a part of the claim' if claim.part_of else ''}"
    shown = f"{answer.word} (with all studies and parts: {word})" if is_first and answer.word != word else answer.word
    return [
        stacked(*(name, claim.statement) if is_first or claim.part_of else (name,)),
        claim.source if is_first or claim.part_of else "",
        stacked(f"**{shown}**", *reasons),
        _intervals(answer),
        _scale(answer),
        stacked(*studies),
    ]


def _intervals(answer: Answer) -> str:
    """Return the first difference that decides, with its interval, and how many others do."""
    if answer.findings is None or answer.verdict is None:
        return ""
    num_more = len(answer.verdict.deciding) - 1
    first = [
        f"{compared_in_words(answer.findings.study, judged.expected)}: {judged.difference.text()}"
        for judged in answer.verdict.comparisons[:1]
    ]
    return stacked(*first, *([f"and {num_more} more"] if num_more > 0 else []))


def _reasons(answer: Answer, *, is_priced: bool) -> tuple[str, ...]:
    """Return what qualifies a verdict first, how many seeds decide it and their price; its report has the rest."""
    if answer.verdict is None:
        return ()
    lines = list(answer.verdict.qualifications[:1])
    if is_priced:
        lines.append(in_words(answer.seeds_to_decide))
        if price := answer.price:
            lines.append(f"{price.num_runs:,.0f} more runs, {price.hours:.1f} hours.")
    return tuple(filter(None, lines))


def _scale(answer: Answer) -> str:
    """Return scale and seeds of a verdict, and what is unusual: arms at equal FLOPs, another look than the first."""
    if answer.findings is None or answer.verdict is None:
        return ""
    seeds = [judged.difference.n for judged in answer.verdict.deciding if judged.difference.n]
    fewest, most = (min(seeds), min(seeds)) if seeds else seeds_per_arm(answer.findings.evidence)
    equal, look = answer.findings.study.equal, answer.findings.look.number
    unusual = [f"equal {equal}"] * (equal != "samples") + [f"look {look}"] * (look > 1)
    return ", ".join([answer.findings.config.label, in_seeds(fewest, most), *unusual])


def _study(answer: Answer) -> tuple[str, ...]:
    """Return the report of a study with what it measures if it gives no verdict, or the study without a report."""
    measured = tuple(answer.claim.measured_by.values())
    if answer.report:
        return (f"[{answer.report}](../{answer.report}/report.md)", *measured)
    if not answer.study:
        return tuple(f"{name}, {NOT_RUN}: {what}" for name, what in answer.claim.measured_by.items())
    return (answer.study,)


def _paper_table(paper_table: PaperTable, findings: Mapping[str, Findings]) -> Table:
    """Return published values, each with its difference from the row that the paper uses, and ours beside them: those
    of the first report of the table's study at equal samples."""
    reports = (report for report in findings.values() if report.study.slug == paper_table.study)
    ours = next((report for report in reports if report.study.equal == "samples"), None)
    caption = f"{paper_table.title}. Claims: {', '.join(paper_table.claims)}."
    table = Table(["condition", *paper_table.metrics], name=paper_table.id, caption=caption)
    if paper_table.study:
        table.columns.append(f"ours: {PROBE} ({paper_table.study})")
    for row in paper_table.rows:
        is_reference = row.condition == paper_table.reference
        published = [
            f"{value:g}" if is_reference else f"{value:g} ({difference:+z.1f})"
            for value, difference in zip(row.values, paper_table.differences[row.condition], strict=True)
        ]
        of_ours = [_ours(row, paper_table, ours)] if paper_table.study else []
        name = f"{row.condition} (reference)" if is_reference else row.condition
        table.rows.append([name, *published, *of_ours])
    return table


def _ours(row: Row, table: PaperTable, ours: Findings | None) -> str:
    """Return our mean and difference from the arm of the reference row, in per cent and points."""
    if not row.arm:
        return "no such arm"
    if ours is None:
        return "not run yet"
    mean = ours.evidence.mean(PROBE, row.arm)
    if not mean.n:
        return "not measured"
    lines = [f"{_points(mean, '.1f')}, n = {mean.n}"]
    reference = next(other.arm for other in table.rows if other.condition == table.reference)
    if reference and row.arm != reference:
        difference = ours.differences.of(row.arm, PROBE, reference, PROBE)
        lines.append(f"Δ {_points(difference, '+.1f')}")
    return stacked(*lines)


def _points(share: Estimate, form: str) -> str:
    return with_interval(100 * share.mean, 100 * share.low, 100 * share.high, form)


def _numbers(answers: Sequence[Answer], word: str) -> dict[str, Any]:
    return {
        "verdict": word,
        "answers": [
            {
                "claim": answer.claim.id,
                "study": answer.study,
                "report": answer.report,
                "verdict": answer.word,
                "why_not": answer.claim.why_not,
                "seeds_to_decide": answer.seeds_to_decide,
                "runs": list(answer.runs),
                **_comparisons(answer),
            }
            for answer in answers
        ],
    }


def _comparisons(answer: Answer) -> dict[str, Any]:
    """Return a verdict with the comparisons behind it, each an estimate with what was expected of it."""
    if answer.findings is None or answer.verdict is None:
        return {}
    study, evidence = answer.findings.study, answer.findings.evidence
    comparisons = [
        {
            "compared": compared_in_words(study, judged.expected),
            "expected": judged.expected.relation,
            "outcome": judged.outcome.word,
            **estimate(judged.difference, evidence.unit(judged.expected.metric)),
        }
        for judged in answer.verdict.comparisons
    ]
    return verdict_values(answer.verdict) | {"comparisons": comparisons}
