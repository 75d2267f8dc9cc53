"""The controls of a study."""

from analysis.document.model import Block, Bullets, Paragraph, Section
from analysis.judgement.controls import NULL_NOTE
from analysis.judgement.findings import Findings


def section(findings: Findings) -> Section:
    """Return the result of each control in each metric that decides something."""
    study = findings.study
    results = [
        f"{one.control.replace('_', ' ').capitalize()} ({study.label(one.control)}), {one.metric}: **{one.result}**."
        f" {one.reason}"
        for one in findings.controls
    ]
    intro = "Controls are checked in each metric that decides something. One that did not pass withholds what rests on"
    blocks: list[Block] = [Paragraph(f"{intro} that metric."), Bullets(results)]
    if any(one.metric != one.than_metric for expectations in study.claims.values() for one in expectations):
        blocks.append(
            Paragraph(
                "Some claims compare two metrics. There the untrained encoder is a control too: before training, the"
                " difference of the two metrics must be shown to lie within the margin."
            )
        )
    if "null_control" in study.controls:
        blocks.append(Paragraph(NULL_NOTE))
    return Section("Controls", blocks)
