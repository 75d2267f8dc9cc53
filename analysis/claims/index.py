"""The index of all reports: the verdict on every claim, the differences behind them, and a line for each study."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.figure
import pandas as pd
from matplotlib import pyplot as plt

from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.expectations import Expected
from aimv2.ablations.ladder import PUBLISHED
from aimv2.analysis.claims.page import studies_in, summary_of
from aimv2.analysis.document.model import VERDICTS, Block, Bullets, Document, Figure, Paragraph, Section, Table, stacked
from aimv2.analysis.document.style import BEHIND, INK, SOFT, show_on_hover, style
from aimv2.analysis.inference.relations import Word
from aimv2.analysis.judgement.claims import DECIDED, WORDS, Answer, all_answers, by_claim, overall
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.verdicts import compared_in_words
from aimv2.analysis.sections.scaling import law_of
from aimv2.analysis.sections.summary import answer
from aimv2.analysis.sections.tables import seeds_per_arm, span
from aimv2.definitions.metrics import lower_is_better

JUDGED = (*DECIDED, Word.UNDECIDED)
PER_CLAIM = 2  # differences of a claim
HEADER = 0.8  # of a row, the name of a claim above its differences
FAR = 6.0  # margins, where a difference is cut off
OTHERS = {
    "claims/report.md": "every claim with its reasons, by `python analysis/report.py claims`.",
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
    """Return the index of the findings of all reports, by folder, and of those of OTHERS that exist."""
    answers = all_answers({name: report for name, report in findings.items() if not report.study.is_search})
    words = {name: overall(of_claim) for name, of_claim in answers.items()}
    blocks: list[Block] = [_claims(words)]
    if rows := [row for of_claim in answers.values() for row in _rows(of_claim)]:
        with style():
            blocks.append(_forest(rows))
    pages = [f"[{page.partition('/')[0]}]({page}): {OTHERS[page]}" for page in others]
    return Document(
        title="Which claims of AIMv2 hold in our runs?",
        subtitle="",
        answer=summary_of(words),
        sections=[
            Section("Claims", blocks),
            Section("Studies", [_studies(findings), *_cost(findings)]),
            Section("Other pages", [*([Bullets(pages)] if pages else []), Paragraph(FOLDERS)]),
        ],
        numbers={"claims": words},
    )


def _claims(words: Mapping[str, str]) -> Table:
    """Return the names of the claims by part of the papers and by verdict."""
    shown = [word for word in WORDS if word in words.values()]
    caption = "The claims of AIMv2 and of AIM v1, by part of the papers, with the verdict of all studies and parts."
    table = Table(["part", *(f"{VERDICTS[word].mark} {word}" for word in shown)], name="claims", caption=caption)
    for group in dict.fromkeys(claim.group for claim in CLAIMS.values()):
        names = {word: [name for name in words if (CLAIMS[name].group, words[name]) == (group, word)] for word in shown}
        if any(names.values()):
            table.rows.append([group, *(stacked(*names[word]) for word in shown)])
    return table


class Row(NamedTuple):
    """A difference in units of its margin, with its interval; above 0 if it is as the claim says."""

    claim: str
    verdict: str  # of all studies
    word: str  # of the study
    paper: str  # what the paper's own numbers show; empty if it has none
    text: str  # what is compared, and the difference in its own unit
    mean: float
    low: float
    high: float


def _rows(answers: Sequence[Answer]) -> list[Row]:
    """Return the first differences behind the verdicts on a claim, those of studies with the verdict of all first."""
    rows = []
    for name, group in by_claim(answers).items():
        word = overall(group)
        for answered in sorted(group, key=lambda answered: answered.word != word):
            if answered.findings is None or answered.verdict is None or answered.verdict.word not in JUDGED:
                continue
            study, claim = answered.findings.study, answered.claim
            for judged in answered.verdict.deciding[:PER_CLAIM]:
                margin, difference = study.margin_of(judged.expected), judged.difference
                if not difference.has_interval or not margin:
                    continue
                sign = claimed_sign(judged.expected)
                low, high = sorted((sign * difference.low, sign * difference.high))
                values = (value / margin for value in (sign * difference.mean, low, high))
                text = f"{compared_in_words(study, judged.expected)}: {difference.text()}"
                paper = re.split("[,;]", claim.claimed)[0] if claim.published else ""
                rows.append(Row(name, word, answered.word, paper, text, *values))
    return rows


def claimed_sign(expected: Expected) -> int:
    """Return the sign of a difference on the side of a claim; 1 for claims of equality and of ranges."""
    if expected.relation in ("equal", "wider"):
        return 1
    is_above = expected.relation in ("better", "not worse")
    return 1 if is_above != lower_is_better(expected.metric) else -1


def _forest(rows: Sequence[Row]) -> Figure:
    caption = (
        "The first differences behind verdicts, at most two of a claim in a study, in units of the margin below which a"
        " difference does not matter (grey). On the right is what the claim says; a claim that there is no difference,"
        " or none in one direction, holds in the grey band too. Texts have the difference in its own unit and with its"
        " sign. Beside the claims stands what single runs of the paper showed, mostly in points of its benchmarks."
        " A claim that has parts has its own verdict here. Bars are the deciding intervals, cut off beyond the scale."
    )
    return Figure("forest", "Differences behind verdicts in units of their margins", caption, *forest(rows))


def forest(rows: Sequence[Row]) -> tuple[matplotlib.figure.Figure, pd.DataFrame]:
    """Draw differences in units of their margins below the names of claims; those beyond FAR are cut off there."""
    is_first = [number == 0 or rows[number - 1].claim != row.claim for number, row in enumerate(rows)]
    places = [number + HEADER * sum(is_first[: number + 1]) for number in range(len(rows))]
    height = len(rows) + HEADER * sum(is_first)
    figure, axis = plt.subplots(figsize=(8.5, 0.42 * height + 0.9), layout="constrained")
    axis.axvspan(-1, 1, color=SOFT, alpha=0.15, lw=0)
    axis.axvline(0, color=INK, lw=1)
    text_style: dict[str, Any] = {"transform": axis.get_yaxis_transform(), "va": "center", "color": INK, "bbox": BEHIND}
    for place, row, has_header in zip(places, rows, is_first, strict=True):
        mean, low, high = (min(max(value, -FAR), FAR) for value in (row.mean, row.low, row.high))
        color = VERDICTS[row.word].color
        (line,) = axis.plot([low, high], [place, place], color=color, lw=2)
        show_on_hover(line, f"{row.claim}, {row.text}")
        if abs(row.mean) < FAR:
            axis.plot(mean, place, "o", color=color, ms=6)
        for end in (low, high):
            if abs(end) == FAR:
                axis.plot(end, place, ">" if end > 0 else "<", color=color, ms=6)
        axis.text(0.01, place - 0.38, row.text, **text_style)
        if has_header:
            header = f"{row.claim}: {row.verdict}" + (f"; paper: {row.paper}" if row.paper else "")
            axis.text(0.01, place - 0.38 - HEADER, header, weight="bold", **text_style)
    axis.set_yticks([])
    axis.tick_params(labeltop=True)
    axis.set_ylim(height - 0.5, -0.6)
    axis.set_xlim(-1.04 * FAR, 1.04 * FAR)
    axis.spines["left"].set_visible(False)
    axis.set_xlabel("difference in units of its equivalence margin, on the right as the claim says")
    return figure, pd.DataFrame(rows)


def _studies(findings: Mapping[str, Findings]) -> Table:
    table = Table(["study", "question", "answer", "seeds", "hours"], name="studies")
    for name, report in findings.items():
        runs = report.evidence.runs
        law = law_of(report.study, report.evidence) if report.compares else None
        hours = float(runs["seconds"].sum()) / 3600 if len(runs) else 0.0
        fewest, most = seeds_per_arm(report.evidence)
        link = f"[{name}]({name}/report.md)"
        table.rows.append([link, report.study.question, answer(report, law), span(fewest, most), f"{hours:.1f}"])
    return table


def _cost(findings: Mapping[str, Findings]) -> list[Paragraph]:
    """Return what the runs of all studies took; what studies share counts once."""
    runs = [report.evidence.runs for report in findings.values() if len(report.evidence.runs)]
    if not runs:
        return []
    done = pd.concat(runs).drop_duplicates(["run", "code"])
    missing = pd.concat([report.evidence.missing for report in findings.values()])
    failed = missing.loc[missing["has_failed"].astype(bool), "run"].nunique()
    hours, flops = done["seconds"].sum() / 3600, done["train_flops"].sum()
    text = f"All studies together: {len(done):,} runs, each counted once, of {hours:.1f} hours and {flops:.2g}"
    return [Paragraph(f"{text} training FLOPs; {failed or 'none'} failed.")]
