"""The index of all reports: the verdict on every claim, the differences behind them, and a line for each study."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.expectations import Expected
from aimv2.analysis.claims.page import studies_in, summary_of
from aimv2.analysis.document.model import Block, Bullets, Document, Figure, Paragraph, Section, Table
from aimv2.analysis.document.style import style
from aimv2.analysis.evidence.recorded_runs import PUBLISHED
from aimv2.analysis.evidence.searches import Trial
from aimv2.analysis.figures.claims import ClaimCell, Row, claims_map, forest
from aimv2.analysis.inference.relations import Word
from aimv2.analysis.judgement.claims import DECIDED, Answer, all_answers, by_claim, overall
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.verdicts import compared_in_words
from aimv2.analysis.sections.answer import answer
from aimv2.analysis.sections.scaling.section import law_of
from aimv2.analysis.sections.search import cost_of
from aimv2.analysis.sections.words import in_seeds, seeds_per_arm, span
from aimv2.spec.metrics import lower_is_better

JUDGED = (*DECIDED, Word.UNDECIDED)
PER_CLAIM = 2  # differences of a claim
OTHERS = {
    "claims/report.md": "every claim with its reasons, by `python analysis/report.py claims`.",
    "costs/report.md": "time and memory beside other encoders, by `python -m benchmarks costs`.",
    f"{PUBLISHED}/index.md": "the reports that are committed with this code.",
    "verify/report.md": "one trained run against the definitions of the paper, by `python -m aimv2.analysis.verify`.",
}
FOLDERS = (
    "The folder of a study has `report.md`, the same as `report.html` (not in the repository), numbers for programs in"
    " `report.json`, and the records from which `python analysis/report.py NAME --from-records` builds it again; with"
    " `export=true` also the runs as `results.csv`, tables as LaTeX and figures as PDF."
)


def index_document(reports_dir: Path) -> Document:
    """Return the index, from the records beside the reports of all studies; errors as in ``findings_in``."""
    others = [page for page in OTHERS if (reports_dir / page).exists()]
    return document(studies_in(reports_dir), others)


def document(findings: Mapping[str, Findings], others: Sequence[str] = ()) -> Document:
    """Return the index.

    Args:
        findings: those of all reports, by folder.
        others: those of OTHERS that exist.
    """
    answers = all_answers({name: one for name, one in findings.items() if not one.study.is_search})
    words = {name: overall(own) for name, own in answers.items()}
    groups: dict[str, list[ClaimCell]] = {}
    for name, own in answers.items():
        groups.setdefault(CLAIMS[name].group, []).append(ClaimCell(name, words[name], _note(name, words[name], own)))
    rows = [row for own in answers.values() for row in _rows(own)]
    with style():
        drawn: list[Block] = [_map(groups), *([_forest(rows)] if rows else [])]
    pages = [f"[{page.partition('/')[0]}]({page}): {OTHERS[page]}" for page in others]
    linked = [Bullets(pages)] if pages else []
    return Document(
        title="Which claims of AIMv2 hold in our runs?",
        subtitle="",
        answer=summary_of(words),
        sections=[
            Section("Claims", drawn),
            Section("Studies", [_studies(findings), *_cost(findings)]),
            Section("Other pages", [*linked, Paragraph(FOLDERS)]),
        ],
        numbers={"claims": words},
    )


def _note(name: str, word: str, answers: Sequence[Answer]) -> str:
    """Return the statement of a claim, and the scale and seeds of each study that judges it."""
    where = [
        f"{one.report}: {in_seeds(*seeds_per_arm(one.findings.evidence))} at {one.findings.config.label}"
        for one in answers
        if one.findings is not None
    ]
    return "; ".join([f"{word}: {CLAIMS[name].statement}", *dict.fromkeys(where)])


def _rows(answers: Sequence[Answer]) -> list[Row]:
    """Return the first differences behind the verdicts on a claim, in units of margins; above 0 as the claim says."""
    rows, groups = [], by_claim(answers)
    words = {claim: overall(own) for claim, own in groups.items()}
    for one in (one for own in groups.values() for one in sorted(own, key=lambda one: one.word != words[one.claim.id])):
        if one.findings is None or one.verdict is None or one.verdict.word not in JUDGED:
            continue
        study = one.findings.study
        for judged in one.verdict.deciding[:PER_CLAIM]:
            margin, found = study.margin_of(judged.expected), judged.difference
            if found.has_interval and margin:
                sign = claimed_sign(judged.expected)
                low, high = sorted((sign * found.low, sign * found.high))
                values = (value / margin for value in (sign * found.mean, low, high))
                text = f"{compared_in_words(study, judged.expected)}: {found.text()}"
                paper = re.split("[,;]", one.claim.claimed)[0] if one.claim.published else ""
                rows.append(Row(one.claim.id, words[one.claim.id], str(one.verdict.word), paper, text, *values))
    return rows


def claimed_sign(expected: Expected) -> int:
    """Return the sign of a difference on the side of a claim; 1 for claims of equality and of ranges."""
    if expected.relation in ("equal", "wider"):
        return 1
    is_above = expected.relation in ("better", "not worse")
    return 1 if is_above != lower_is_better(expected.metric) else -1


def _map(groups: Mapping[str, Sequence[ClaimCell]]) -> Figure:
    caption = (
        "The claims of AIMv2 and of AIM v1, by part of the papers, each with the verdict of all its studies and parts."
        " On the HTML page, hover for statement, scale and seeds."
    )
    return Figure("claims", "The verdict on every claim", caption, *claims_map(groups))


def _forest(rows: Sequence[Row]) -> Figure:
    caption = (
        "The first differences behind verdicts, at most two of a claim in a study, in units of the margin below which a"
        " difference does not matter (grey). On the right is what the claim says; a claim that there is no difference,"
        " or none in one direction, holds in the grey band too. Texts have the difference in its own unit and with its"
        " sign. Beside the claims stands what single runs of the paper showed, mostly in points of its benchmarks."
        " A claim that has parts has its own verdict here. Bars are the deciding intervals, cut off beyond the scale."
    )
    return Figure("forest", "Differences behind verdicts in units of their margins", caption, *forest(rows))


def _studies(findings: Mapping[str, Findings]) -> Table:
    table = Table(["study", "question", "answer", "seeds", "hours"], name="studies")
    for name, one in findings.items():
        runs = one.evidence.runs
        law = law_of(one.study, one.evidence) if one.compares else None
        hours = float(runs["seconds"].sum()) / 3600 if len(runs) else 0.0
        fewest, most = seeds_per_arm(one.evidence)
        table.rows.append(
            [
                f"[{name}]({name}/report.md)",
                one.study.question,
                answer(one, law),
                span(fewest, most),
                f"{hours:.1f}",
            ]
        )
    return table


def _cost(findings: Mapping[str, Findings]) -> list[Paragraph]:
    """Return what the runs of all studies and the trials of all searches took; what studies share counts once."""
    trials = {trial.run: trial for one in findings.values() if one.search for trial in one.search.trials if trial.run}
    return [*_cost_of_runs(findings), *([_cost_of_trials(list(trials.values()))] if trials else [])]


def _cost_of_runs(findings: Mapping[str, Findings]) -> list[Paragraph]:
    runs = [one.evidence.runs for one in findings.values() if len(one.evidence.runs)]
    if not runs:
        return []
    done = pd.concat(runs).drop_duplicates(["run", "code"])
    hours = done["seconds"].sum() / 3600
    missing = pd.concat([one.evidence.missing for one in findings.values()])
    failed = missing.loc[missing["has_failed"].astype(bool), "run"].nunique()
    return [
        Paragraph(
            f"All studies together: {len(done):,} runs, each counted once, of {hours:.1f} hours and"
            f" {done['train_flops'].sum():.2g} training FLOPs; {failed or 'none'} failed."
        )
    ]


def _cost_of_trials(trials: Sequence[Trial]) -> Paragraph:
    cost, failed = cost_of(trials), sum(one.state == "failed" for one in trials)
    hours = "unknown" if cost["seconds"] is None else f"{cost['seconds'] / 3600:.1f}"
    return Paragraph(
        f"Searches took {len(trials):,} more trials, of {hours} hours and {cost['flops']:.2g} training FLOPs;"
        f" {failed or 'none'} failed."
    )
