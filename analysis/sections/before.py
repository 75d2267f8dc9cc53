"""Architectures before training, beside what their arms differ by after it."""

from aimv2.ablations.study import UNTRAINED
from aimv2.analysis.document.model import Block, Paragraph, Section, Table
from aimv2.analysis.judgement.before import Start
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.sections.words import withheld

ABOUT = (
    "These arms have another encoder than the baseline before training. A difference after training is real, but where"
    " there was one before, not all of it is the effect of training. The metrics are those of the encoder; intervals"
    " have 95 % each."
)


def section(findings: Findings) -> Section | None:
    """Return each architecture's metrics before training, and what was not measured; None if there is one architecture.

    Arms of one architecture share its untrained encoder.
    """
    if not findings.starts:
        return None
    study, has_runs = findings.study, set(findings.evidence.runs["arm"])
    columns = ["arm", "metric", "before training [95 % interval]", "difference before training"]
    table = Table([*columns, "difference after training"], name="before_training")
    measured = [one for one in findings.starts if one.difference.n]
    for metric in dict.fromkeys(one.metric for one in measured):
        table.rows.append(
            [study.label(study.baseline), metric, _mean(findings, metric, UNTRAINED), "baseline", "baseline"]
        )
        table.rows.extend(_row(findings, one) for one in measured if one.metric == metric)
    blocks: list[Block] = [Paragraph(ABOUT)]
    if table.rows:
        apart = dict.fromkeys(study.label(one.arm) for one in measured if one.difference.excludes_zero)
        found = (
            f"Part of the difference after training may have been there before: {', '.join(apart)}."
            if apart
            else "No difference before training excludes 0."
        )
        blocks += [table, Paragraph(found)]
    if unknown := dict.fromkeys(study.label(one.arm) for one in findings.starts if one.untrained not in has_runs):
        blocks.append(
            Paragraph(f"Not measured before training: {', '.join(unknown)}. The same launch again adds these runs.")
        )
    return Section("Before training", blocks)


def _row(findings: Findings, one: Start) -> list[str]:
    after = findings.differences.separately(one.metric, one.arm, covers_items=True)
    differences = [
        withheld(findings, arm) or estimate.text("+.4f")
        for arm, estimate in ((one.untrained, one.difference), (one.arm, after))
    ]
    return [findings.study.label(one.arm), one.metric, _mean(findings, one.metric, one.untrained), *differences]


def _mean(findings: Findings, metric: str, untrained: str) -> str:
    mean = findings.evidence.mean(metric, untrained)
    return mean.text(".4f")
