"""The report on a study: its sections, in the order of reading."""

import shlex
from collections.abc import Mapping

from ablations.adapt import announcements
from aimv2.base.markdown import escape
from analysis.document.model import Block, Document, Figure, Paragraph, code_span
from analysis.document.style import style
from analysis.figures import arms
from analysis.figures.ladder import draw_ladder
from analysis.inference.intervals import percent
from analysis.judgement import confirmation
from analysis.judgement.conclusions import code_note, conclusion
from analysis.judgement.controls import NULL_LEVEL
from analysis.judgement.findings import Findings
from analysis.judgement.guards import notes
from analysis.judgement.sensitivity import FILE, ladder_text
from analysis.sections import (
    checklist,
    claims,
    convergence,
    examples,
    factors,
    methods,
    metrics,
    primary,
    search,
    sensitivity,
)
from analysis.sections.numbers import numbers_of
from analysis.sections.runs import cost_section, runs_section, setup_section
from analysis.sections.scaling import section as scaling
from analysis.sections.scaling.agreement import association_section
from analysis.sections.scaling.law import Fitted, law_figure, law_numbers
from analysis.sections.scaling.law import conclusion as law_conclusion


def document(findings: Findings, files: Mapping[str, bytes]) -> Document:
    """Return the report on a study.

    Args:
        files: more files that belong to it, by path.
    """
    if not findings.compares:
        return _search_alone(findings, files)
    study, evidence = findings.study, findings.evidence
    shown, images = examples.section(findings)
    results = evidence.results.to_csv(index=False).encode()
    files = {"results.csv": results, **images, **files}
    if findings.ladder:
        files[FILE] = ladder_text(findings.ladder).encode()
    law = scaling.law_of(study, evidence)
    if findings.search is None:
        answer = conclusion(study, findings.comparisons, escape(findings.unit), findings.withheld)
    else:
        answer = confirmation.conclusion(findings)
    with style():
        lead, figures = _differences(findings), _learning_curves(findings)
        if isinstance(law, Fitted) and not findings.withheld:  # the law is the answer
            answer, figures = law_conclusion(law), [lead, *figures] if lead else figures
            lead = law_figure(law)
        sections = [
            claims.section(findings) if findings.search is None else None,
            primary.section(findings, figures),
            search.section(findings),
            scaling.section(study, evidence, law, findings.withheld),
            factors.section(findings),
            convergence.section(findings),
            sensitivity.section(findings, _ladder(findings)),
            metrics.section(findings),
            association_section(study, evidence),
            claims.controls_section(findings) if findings.controls or findings.search is None else None,
            shown,
            cost_section(findings),
            setup_section(findings),
            methods.section(findings),
            checklist.section(findings),
            runs_section(findings),
        ]
    return Document(
        title=findings.request.folder,
        question=study.question,
        conclusion=_incomplete(findings) + answer,
        introduction=_introduction(findings),
        lead=lead,
        sections=[one for one in sections if one is not None],
        numbers={
            **numbers_of(findings),
            "factors": factors.numbers(findings),
            "convergence": convergence.numbers(findings),
            "scaling": law_numbers(law) if isinstance(law, Fitted) else law,
            **search.numbers(findings),
            "limits": {arm: list(notes(findings, arm, findings.metric)) for arm in study.conditions},
        },
        files=files,
    )


def _search_alone(findings: Findings, files: Mapping[str, bytes]) -> Document:
    """Return the report on a search that compares nothing: it has no winner, or the baseline won it."""
    with style():
        sections = [
            search.section(findings),
            metrics.of_baseline(findings),
            None if findings.evidence.runs.empty else cost_section(findings),
            setup_section(findings),
            methods.section(findings),
            checklist.section(findings),
            runs_section(findings),
        ]
    return Document(
        title=findings.request.folder,
        question=findings.study.question,
        conclusion=confirmation.conclusion(findings),
        introduction=_introduction(findings),
        sections=[one for one in sections if one is not None],
        numbers={**numbers_of(findings), **search.numbers(findings)},
        files={"results.csv": findings.evidence.results.to_csv(index=False).encode(), **files},
    )


def _incomplete(findings: Findings) -> str:
    """Return how many runs the conclusion lacks; empty if it lacks none, or has none."""
    has, lacks = len(findings.evidence.runs), len(findings.evidence.missing)
    return f"Incomplete: {lacks} of {has + lacks} runs have no result. " if has and lacks else ""


def _introduction(findings: Findings) -> list[Block]:
    """Return source and command of the study, and what limits its conclusions."""
    command = shlex.join(["python", "sweeps/launch.py", *findings.request.arguments])
    source = f"Source: {findings.study.source}. Command: {code_span(command)}."
    source += " The file [results.csv](results.csv) has one row per run."
    notes = [source, code_note(findings.study, findings.evidence), *announcements(findings.study)]
    return [Paragraph(note) for note in notes if note]


def _differences(findings: Findings) -> Figure | None:
    compared = findings.comparisons.items()
    shown = {arm: one.difference for arm, one in compared if one.difference.n and not one.withheld}
    if not shown:
        return None
    controls_shown = (
        f" The null control has its own {percent(NULL_LEVEL)} % interval, the positive control its own 95 % interval."
        " Controls off the scale are cut off."
    ) * bool(findings.study.controls)
    caption = (
        "Differences from the baseline. Dots are seeds, large markers are means, bars are simultaneous"
        f" {percent(findings.look.level)} % intervals.{controls_shown} The grey band is the equivalence margin."
    )
    drawn = arms.differences_to_baseline(findings.study, findings.evidence, shown)
    return Figure("differences", "Differences from the baseline", caption, *drawn)


def _learning_curves(findings: Findings) -> list[Block]:
    if not findings.evidence.curve:
        return []
    caption = (
        "Learning curves on held-out pairs. Lines are means over seeds, bands are 95 % intervals. The right half leaves"
        " out the controls. The curves use fewer pairs than the table."
    )
    drawn = arms.learning_curves(findings.study, findings.evidence)
    return [Figure("learning_curves", "Learning curves", caption, *drawn)]


def _ladder(findings: Findings) -> list[Block]:
    if findings.ladder is None:
        return []
    seen = (
        "Known effects on the metrics that decide claims, in units of noise. With the seeds of this study, a difference"
        " outside the dashed lines is detected in at least 4 of 5 cases."
    )
    return [Figure("sensitivity", "Known effects in units of noise", seen, *draw_ladder(findings.ladder))]
