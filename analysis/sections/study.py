"""The report on a study: its sections, in the order of reading."""

from collections.abc import Mapping
from dataclasses import fields

from aimv2.analysis.document.model import Block, Document, Figure, Paragraph, Section, code_span
from aimv2.analysis.document.style import style
from aimv2.analysis.figures import arms
from aimv2.analysis.figures.ladder import draw_ladder
from aimv2.analysis.inference.intervals import percent
from aimv2.analysis.judgement import confirmation
from aimv2.analysis.judgement.conclusions import code_note, conclusion
from aimv2.analysis.judgement.controls import NULL_LEVEL
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.guards import COSTS, notes
from aimv2.analysis.judgement.sensitivity import FILE, Ladder, ladder_text
from aimv2.analysis.sections import (
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
    summary,
)
from aimv2.analysis.sections.answer import answer
from aimv2.analysis.sections.numbers import numbers_of
from aimv2.analysis.sections.runs import cost_section, runs_section, setup_section
from aimv2.analysis.sections.scaling import section as scaling
from aimv2.analysis.sections.scaling.agreement import association_section
from aimv2.analysis.sections.scaling.law import Fitted, law_figure, law_numbers
from aimv2.analysis.sections.scaling.law import conclusion as law_conclusion
from aimv2.analysis.sections.words import in_seeds, seeds_per_arm
from aimv2.base.markdown import escape
from aimv2.config.signature import NOT_IDENTITY


def document(findings: Findings, files: Mapping[str, bytes]) -> Document:
    """Return the report on a study.

    Args:
        files: more files that belong to it, by path.
    """
    if not findings.compares:
        return _search_alone(findings, files)
    study, evidence = findings.study, findings.evidence
    shown, images = examples.section(findings)
    files = {**images, **files}
    if findings.ladder:
        files[FILE] = ladder_text(findings.ladder).encode()
    law = scaling.law_of(study, evidence)
    with style():
        lead, figures = _differences(findings), _learning_curves(findings)
        if isinstance(law, Fitted) and not findings.withheld:  # the law is the answer
            figures = [lead, *figures] if lead else figures
            lead = law_figure(law)
        if findings.ladder is not None:
            figures = [lead, *figures] if lead else figures
            lead = _ladder(findings.ladder)
        details = [
            Section("The comparisons in words", _in_words(findings, law)),
            claims.section(findings) if findings.search is None and study.base is None else None,
            primary.section(findings, figures),
            search.section(findings),
            scaling.section(study, evidence, law, findings.withheld),
            factors.section(findings),
            convergence.section(findings),
            sensitivity.section(findings),
            metrics.section(findings),
            association_section(study, evidence),
            claims.controls_section(findings) if findings.controls or findings.search is None else None,
            shown,
            cost_section(findings),
            setup_section(findings),
            *([methods.section(findings), checklist.section(findings)] if study.base is None else []),
            runs_section(findings),
        ]
    return Document(
        title=study.question,
        subtitle=_subtitle(findings),
        answer=answer(findings, law),
        chips=summary.chips(findings),
        lead=lead,
        sections=summary.sections(findings),
        details=[one for one in details if one is not None],
        numbers={
            **numbers_of(findings),
            "factors": factors.numbers(findings),
            "scaling": law_numbers(law) if isinstance(law, Fitted) else law,
            **search.numbers(findings),
            "limits": {arm: list(notes(findings, arm, findings.metric)) for arm in study.conditions},
        },
        files=files,
        exports=_results(findings),
    )


def _search_alone(findings: Findings, files: Mapping[str, bytes]) -> Document:
    """Return the report on a search that compares nothing: it has no winner, or the baseline won it."""
    with style():
        details = [
            Section("The search in words", [Paragraph(confirmation.conclusion(findings))]),
            search.section(findings),
            metrics.of_baseline(findings),
            None if findings.evidence.runs.empty else cost_section(findings),
            setup_section(findings),
            methods.section(findings),
            checklist.section(findings),
            runs_section(findings),
        ]
    return Document(
        title=findings.study.question,
        subtitle=_subtitle(findings),
        answer=answer(findings),
        sections=summary.sections(findings),
        details=[one for one in details if one is not None],
        numbers={**numbers_of(findings), **search.numbers(findings)},
        files=files,
        exports=_results(findings),
    )


def _results(findings: Findings) -> dict[str, bytes]:
    """Return a table with a row for each finished run."""
    return {"results.csv": findings.evidence.results.to_csv(index=False).encode()}


def _subtitle(findings: Findings) -> str:
    """Return the way back to the index, the report's name, its scale and seeds, what is equal in arms if it is not
    samples, and what changes the base run."""
    number = in_seeds(*seeds_per_arm(findings.evidence))
    parts = ["[Reports](../index.md)", findings.request.folder, f"scale {findings.config.label}", number]
    if findings.study.equal != "samples":
        parts.append(f"arms at equal {COSTS[findings.study.equal][0]}")
    own = [word for word in findings.request.arguments if _changes_runs(findings, word.partition("=")[0])]
    return " · ".join(parts + [code_span(" ".join(own))] * bool(own))


def _changes_runs(findings: Findings, key: str) -> bool:
    """True if a key of the command line changes what runs compute."""
    root = key.partition(".")[0]
    is_of_run = root in {one.name for one in fields(findings.config)}
    return root == "start" or (is_of_run and NOT_IDENTITY.isdisjoint((key, root)))


def _in_words(findings: Findings, law: Fitted | str | None) -> list[Block]:
    """Return the result with all its intervals, and of which code the runs are if they differ."""
    study = findings.study
    if findings.search is not None:
        text = confirmation.conclusion(findings)
    elif isinstance(law, Fitted) and not findings.withheld:
        text = law_conclusion(law)
    else:
        text = conclusion(
            study, findings.comparisons, escape(findings.unit), findings.withheld, escape(findings.lacks_primary)
        )
    return [Paragraph(one) for one in (text, code_note(study, findings.evidence)) if one]


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
    what = "pairs" if findings.study.base is None else "data"
    caption = (
        f"Learning curves on held-out {what}. Lines are means over seeds, bands are 95 % intervals. The left half"
        " leaves out the value before training, the right half the controls."
    )
    if not findings.study.compares_curves:
        caption += " Arms are not comparable in this loss, because their decoders have other tasks."
    points = findings.evidence.curves.dropna(subset=[findings.evidence.curve])
    lacking = set(findings.evidence.runs["arm"]) - set(points.loc[points["samples"] > 0, "arm"])
    if labels := [findings.study.label(arm) for arm in findings.study.conditions if arm in lacking]:
        caption += f" No curve: {'; '.join(labels)}."
    if findings.study.base is None:
        caption += " The curves use fewer pairs than the table."
    drawn = arms.learning_curves(findings.study, findings.evidence)
    return [Figure("learning_curves", "Learning curves", caption, *drawn)]


def _ladder(ladder: Ladder) -> Figure:
    seen = (
        "Known effects on the metrics that decide claims, in units of noise. With the seeds of this study, a difference"
        " outside the dashed lines is detected in at least 4 of 5 cases."
    )
    return Figure("sensitivity", "Known effects in units of noise", seen, *draw_ladder(ladder))
