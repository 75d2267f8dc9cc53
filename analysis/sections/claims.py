"""The paper's claims with the study's verdicts on them, and the controls on which verdicts rest."""

from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.study import Study
from aimv2.analysis.document.model import Bullets, Chip, Section, Table, stacked
from aimv2.analysis.document.template import blocks_of
from aimv2.analysis.inference.relations import Word
from aimv2.analysis.judgement.claims import Answer, overall, whole_claims
from aimv2.analysis.judgement.controls import NULL_LEVEL
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.sensitivity import MARGIN_SHARE
from aimv2.analysis.judgement.verdicts import Verdict, compared_in_words


def chips(findings: Findings) -> list[Chip]:
    """Return the verdict on each claim, with its parts if the study judges them."""
    return [Chip(name, _with_parts(findings, name)) for name in findings.verdicts]


def _with_parts(findings: Findings, name: str) -> str:
    """Return the study's word for a claim with its parts."""
    claims = [claim for claim in (CLAIMS[name], *whole_claims().get(name, [])) if claim.id in findings.verdicts]
    return overall([Answer(claim, findings.study.slug, findings.request.folder, findings) for claim in claims])


def summary(findings: Findings) -> Section | None:
    """Return the verdicts, each with the first comparison behind it; None if the study judges no claim."""
    if not findings.verdicts:
        return None
    table = Table(["claim", "verdict at this scale", "what decides"], name="verdicts")
    for name, verdict in findings.verdicts.items():
        word = _with_parts(findings, name)
        words = [f"**{verdict.word}**", *([f"with its parts: **{word}**"] if word != verdict.word else [])]
        statement = stacked(f"**{name}**", CLAIMS[name].statement)
        table.rows.append([statement, stacked(*words), _why(findings.study, verdict)])
    return Section("Claims of the paper", [table])


def _why(study: Study, verdict: Verdict) -> str:
    """Return the first comparison behind a verdict, which is one that blocks it if it is undecided."""
    if verdict.word is Word.NOT_TESTABLE or not verdict.deciding:
        return verdict.qualifications[0] if verdict.qualifications else ""
    first = verdict.deciding[0]
    more = f"; and {len(verdict.deciding) - 1} more" if len(verdict.deciding) > 1 else ""
    return f"{compared_in_words(study, first.expected)}: {first.difference.text()}{more}"


def section(findings: Findings) -> Section | None:
    """Return the verdicts with their evidence, the margins and the rules; None if the study judges no claim."""
    if not findings.verdicts:
        return None
    table = Table(["claim", "contradicted if", "verdict", "comparisons", "sensitivity"], name="evidence")
    for name, verdict in findings.verdicts.items():
        claim = CLAIMS[name]
        word = stacked(f"**{verdict.word}**", *verdict.qualifications)
        why = stacked(*verdict.evidence), stacked(*verdict.sensitivity)
        table.rows.append([stacked(f"**{name}**", claim.source), f"{claim.contradicted_if}.", word, *why])
    reading = blocks_of("claims", margins=_margins_note(findings.study))
    return Section("Claims in full", [table, Section("Rules", reading)])


def _margins_note(study: Study) -> str:
    """Return the equivalence margin of each metric that claims compare, and its reason."""
    reasons: dict[str, None] = {}
    for expected in (expected for expectations in study.claims.values() for expected in expectations):
        reason = margin_reason(study, expected.metric) if expected.margin is None else expected.why
        reasons[f"{expected.metric} {study.margin_of(expected):.3g} ({reason})"] = None
    return "; ".join(reasons)


def margin_reason(study: Study, metric: str) -> str:
    """Return where a study's equivalence margin of a metric is from, in words."""
    if metric == study.primary_metric and study.equivalence_margin is not None:
        return "set for this study"
    if metric in study.margins:
        return f"what {100 * MARGIN_SHARE:.0f} % of the samples are worth"
    return "by convention"


def controls_summary(findings: Findings) -> Section | None:
    """Return in which metrics each control has which result."""
    metrics: dict[tuple[str, str], list[str]] = {}
    for control in findings.controls:
        metrics.setdefault((control.control, control.result), []).append(control.metric)
    items = [
        f"{findings.study.label(control)}: **{result}** in {', '.join(names)}."
        for (control, result), names in metrics.items()
    ]
    return Section("Controls", [Bullets(items)]) if items else None


def controls_section(findings: Findings) -> Section:
    """Return the result of each control in each metric that decides something, with its reason."""
    study = findings.study
    compares = any(len(expected.metrics) > 1 for expectations in study.claims.values() for expected in expectations)
    values = {"findings": findings, "study": study, "compares_metrics": compares, "null_level": NULL_LEVEL}
    return Section("Controls in full", blocks_of("controls", **values))
