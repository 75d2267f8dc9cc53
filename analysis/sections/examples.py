"""Images with the caption that each arm wrote."""

import base64

from aimv2.analysis.document.model import Paragraph, Section, Table
from aimv2.analysis.judgement.findings import Findings
from aimv2.base.markdown import escape
from aimv2.config.paths import value_at

INTRODUCTION = (
    "Captions of held-out images by each arm's first seed, with greedy decoding and full attention. A few captions of"
    " one seed decide nothing."
)
CUT = (
    " The end of text is not a training target{of}, as in the released configuration, so captions are cut to the"
    " reference's number of tokens."
)


def section(findings: Findings) -> tuple[Section | None, dict[str, bytes]]:
    """Return the examples and their images by path; None and no image if no arm has any."""
    study, evidence = findings.study, findings.evidence
    arms = [arm for arm in study.arms if evidence.examples.get(arm)]  # one that reads no captions writes none
    table = Table(["image", "reference", *(study.label(arm) for arm in arms)], name="examples")
    images: dict[str, bytes] = {}
    for number, examples in enumerate(zip(*(evidence.examples[arm] for arm in arms), strict=True), 1):
        path = f"figures/example_{number:02d}.png"
        images[path] = base64.b64decode(examples[0]["png"])
        written = [escape(example["written"]) or "*nothing*" for example in examples]
        table.rows.append([f"![image {number}]({path})", escape(examples[0]["reference"]), *written])
    if not table.rows:
        return None, {}
    has_end = {cell.arm: value_at(cell.config, "objective.supervise_eos") for cell in findings.cells}
    cut = [study.label(arm) for arm in arms if not has_end[arm]]
    told = CUT.format(of=f" of {'; '.join(cut)}" if len(cut) < len(arms) else "") if cut else ""
    return Section("Examples", [Paragraph(INTRODUCTION + told), table]), images
