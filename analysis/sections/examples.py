"""Images with the caption that each arm wrote."""

from collections.abc import Sequence

from aimv2.analysis.document.model import INK, Paragraph, Section, Table
from aimv2.analysis.judgement.findings import Findings
from aimv2.base.markdown import escape
from aimv2.config.paths import value_at

SHEET, SIDE = "figures/examples.svg", 48  # points
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
    images = []
    for number, examples in enumerate(zip(*(evidence.examples[arm] for arm in arms), strict=True), 1):
        images.append(examples[0]["png"])
        written = [escape(example["written"]) or "*nothing*" for example in examples]
        table.rows.append([str(number), escape(examples[0]["reference"]), *written])
    if not images:
        return None, {}
    has_end = {cell.arm: value_at(cell.config, "objective.supervise_eos") for cell in findings.cells}
    cut = [study.label(arm) for arm in arms if not has_end[arm]]
    told = CUT.format(of=f" of {'; '.join(cut)}" if len(cut) < len(arms) else "") if cut else ""
    shown = Paragraph(f"![images 1 to {len(images)}]({SHEET})")
    return Section("Examples", [Paragraph(INTRODUCTION + told), shown, table]), {SHEET: _sheet(images).encode()}


def _sheet(images: Sequence[str]) -> str:
    """Return numbered PNG images, in base64, side by side as SVG."""
    step = SIDE + 12  # points
    parts = [
        f'<text x="{step * place}" y="10" font-size="9" fill="{INK}">{place + 1}</text><image x="{step * place}" y="14"'
        f' width="{SIDE}" height="{SIDE}" image-rendering="pixelated" href="data:image/png;base64,{png}"/>'
        for place, png in enumerate(images)
    ]
    size = step * len(images), SIDE + 14
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}pt" height="{size[1]}pt"'
    return "\n".join([f'{head} viewBox="0 0 {size[0]} {size[1]}" font-family="sans-serif">', *parts, "</svg>\n"])
