"""The paper's claims with the study's verdicts on them, and the controls on which verdicts rest."""

from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.study import Study
from aimv2.analysis.document.model import Paragraph, Section, Table, stacked
from aimv2.analysis.document.template import blocks_of
from aimv2.analysis.judgement.controls import NULL_NOTE
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.samples import MARGIN_SHARE
from aimv2.analysis.sections import before

RULES = (
    "What would support or contradict each claim is written in its study. All claims that studies judge share the error"
    " rate of this look equally, so that any false verdict on the page of claims has at most that probability."
    " *Supported* needs every expectation. *Contradicted* needs"
    " evidence for the opposite, and *smaller than claimed* an interval without the claimed effect; an interval that"
    " includes 0 does neither."
)


def section(findings: Findings) -> Section:
    """Return the verdicts with their evidence, and the margins that they use."""
    title = "Claims in full"
    if not findings.verdicts:
        return Section(title, [Paragraph("The paper makes no claim that this study can decide.")])
    table = Table(["claim", "source", "verdict at this scale"], name="claims")
    evidence = Table(["claim", "contradicted if", "comparisons", "sensitivity"], name="evidence")
    for name, verdict in findings.verdicts.items():
        claim = CLAIMS[name]
        word = stacked(f"**{verdict.word}**", *verdict.qualifications)
        table.rows.append([stacked(f"**{name}**", claim.statement), claim.source, word])
        why = stacked(*verdict.evidence), stacked(*verdict.sensitivity)
        evidence.rows.append([name, f"{claim.contradicted_if}.", *why])
    margins = (
        f"Margins: {margins_note(findings.study)}. They decide what is equal, not worse, not better or far worse. An"
        " effect that a claim states may be smaller than the margin: *smaller than claimed* tests the effect itself."
    )
    reasons = Section("Evidence and rules", [evidence, Paragraph(RULES), Paragraph(margins)])
    return Section(title, [table, reasons])


def margins_note(study: Study) -> str:
    """Return the equivalence margin of each metric that claims compare, and its reason."""
    reasons: dict[str, None] = {}
    for one in (one for expectations in study.claims.values() for one in expectations):
        reason = margin_reason(study, one.metric) if one.margin is None else one.why
        reasons[f"{one.metric} {study.margin_of(one):.3g} ({reason})"] = None
    return "; ".join(reasons)


def margin_reason(study: Study, metric: str) -> str:
    """Return where a study's equivalence margin of a metric is from, in words."""
    if metric == study.primary_metric and study.equivalence_margin is not None:
        return "set for this study"
    if metric in study.margins:
        return f"what {100 * MARGIN_SHARE:.0f} % of the samples are worth"
    return "by convention"


def controls_section(findings: Findings) -> Section:
    """Return the result of each control in each metric that decides something, and architectures before training."""
    study = findings.study
    compares = any(len(one.metrics) > 1 for expectations in study.claims.values() for one in expectations)
    values = {"findings": findings, "study": study, "compares_metrics": compares, "null_note": NULL_NOTE}
    architectures = before.section(findings)
    return Section("Controls in full", [*blocks_of("controls", **values), *([architectures] if architectures else [])])
