"""The paper's claims with the study's verdicts on them, and the controls on which verdicts rest."""

from ablations.claims import CLAIMS
from ablations.expectations import default_margin, margin_reason
from ablations.study import Study
from analysis.document.model import Cell, Paragraph, Section, Table
from analysis.document.template import blocks_of
from analysis.judgement.controls import NULL_NOTE
from analysis.judgement.findings import Findings

RULES = (
    "What would support or contradict each claim was written before the runs. Over all claims, false verdicts have a"
    " probability of at most the error rate of this look. *Supported* needs every expectation. *Contradicted* needs"
    " evidence for the opposite, and *smaller than claimed* an interval without the claimed effect; an interval that"
    " includes 0 does neither."
)


def section(findings: Findings) -> Section:
    """Return the verdicts with their evidence, and the margins that they use."""
    title = "Claims of the paper"
    if not findings.verdicts:
        return Section(title, [Paragraph("The paper makes no claim that this study can decide.")])
    table = Table(["claim", "source", "verdict at this scale"], name="claims")
    evidence = Table(["claim", "contradicted if", "comparisons", "sensitivity"], name="evidence")
    for name, verdict in findings.verdicts.items():
        claim = CLAIMS[name]
        word = Cell((f"**{verdict.word}**", *verdict.qualifications))
        table.rows.append([Cell((f"**{name}**", claim.statement)), claim.source, word])
        why = Cell(verdict.evidence), Cell(verdict.sensitivity)
        evidence.rows.append([name, f"{claim.contradicted_if}.", *why])
    margins = (
        f"Margins: {margins_note(findings.study)}. They decide what is equal, not worse, not better or far worse. An"
        " effect that a claim states may be smaller than the margin: *smaller than claimed* tests the effect itself."
    )
    reasons = Section("Evidence and rules", [evidence, Paragraph(RULES), Paragraph(margins)], is_folded=True)
    return Section(title, [table, reasons])


def margins_note(study: Study) -> str:
    """Return the equivalence margin of each metric that claims compare, and its reason."""
    reasons: dict[str, None] = {}
    for one in (one for expectations in study.claims.values() for one in expectations):
        margin = study.margin_of(one)
        if margin != study.margin(one.metric):
            reason = one.why
        elif margin != default_margin(one.metric):
            reason = "set for this study"
        else:
            reason = margin_reason(one.metric)
        reasons[f"{one.metric} {margin:g} ({reason})"] = None
    return "; ".join(reasons)


def controls_section(findings: Findings) -> Section:
    """Return the result of each control in each metric that decides something."""
    study = findings.study
    compares = any(len(one.metrics) > 1 for expectations in study.claims.values() for one in expectations)
    values = {"findings": findings, "study": study, "compares_metrics": compares, "null_note": NULL_NOTE}
    return Section("Controls", blocks_of("controls", **values))
