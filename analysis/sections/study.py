"""The report on a study: its sections, in the order of reading."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

from aimv2.ablations.ladder import FILE
from aimv2.ablations.study import WINNER
from aimv2.analysis.document.model import INK, Block, Document, Figure, Paragraph, Section, Table, code_span
from aimv2.analysis.document.style import style
from aimv2.analysis.figures import differences_to_baseline, learning_curves
from aimv2.analysis.inference.intervals import percent
from aimv2.analysis.judgement.differences import COSTS
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.sensitivity import ladder_text
from aimv2.analysis.sections import (
    claims,
    convergence,
    factors,
    metrics,
    runs,
    scaling,
    search,
    sensitivity,
    summary,
)
from aimv2.analysis.sections.scaling import Fitted, law_figure, law_numbers
from aimv2.analysis.sections.tables import in_seeds, numbers_of, seeds_per_arm
from aimv2.base.errors import escape
from aimv2.config.program import value_at
from aimv2.config.signature import NOT_IDENTITY

SHEET, SIDE = "figures/examples.svg", 48  # the images of examples, each of so many points
CURSE = (
    "The search's own best value is not the result: the best of many values is partly luck (winner's curse). The result"
    " is the difference on fresh seeds."
)


def document(findings: Findings, files: Mapping[str, bytes]) -> Document:
    """Return the report on a study, or on a search that compares nothing, since no arm won it, with more files."""
    study, evidence = findings.study, findings.evidence
    examples, images = _examples(findings)
    more = {FILE: ladder_text(findings.ladder).encode()} if findings.ladder else {}
    law = scaling.law_of(study, evidence) if findings.compares else None
    shown_law = law if isinstance(law, Fitted) and not findings.withheld else None
    with style():
        details: list[Section | None]
        if findings.compares:
            leads, curves = _leads(findings, shown_law), _learning_curves(findings)
            details = [
                _in_words(findings, shown_law),
                claims.section(findings),
                metrics.primary_section(findings, [*leads[1:], *curves]),
                search.section(findings),
                scaling.section(study, evidence, law, findings.withheld),
                factors.section(findings),
                convergence.section(findings),
                sensitivity.section(findings),
                metrics.section(findings),
                claims.controls_section(findings) if findings.controls else None,
                examples,
            ]
        else:
            leads, details = [], [search.section(findings), metrics.section(findings)]
        details += [runs.cost_section(findings), runs.setup_section(findings), runs.runs_section(findings)]
    numbers = {**numbers_of(findings), **search.numbers(findings)}
    if findings.compares:
        numbers |= {
            "factors": factors.numbers(findings),
            "scaling": law_numbers(law) if isinstance(law, Fitted) else law,
        }
    return Document(
        title=study.question,
        subtitle=_subtitle(findings),
        answer=summary.answer(findings, law),
        chips=claims.chips(findings),
        lead=leads[0] if leads else None,
        sections=summary.sections(findings),
        details=[section for section in details if section is not None],
        numbers=numbers,
        files={**(images if findings.compares else {}), **files, **more},
        exports={"results.csv": evidence.results.to_csv(index=False).encode()},
    )


def _subtitle(findings: Findings) -> str:
    """Return the way back to the index, the report's name, its scale and seeds, what is equal in arms if it is not
    samples, and what changes the base run."""
    number = in_seeds(*seeds_per_arm(findings.evidence))
    parts = ["[Reports](../index.md)", findings.request.folder, f"scale {findings.config.label}", number]
    if findings.study.equal != "samples":
        parts.append(f"arms at equal {COSTS[findings.study.equal][0]}")
    words = [word for word in findings.request.arguments if _changes_runs(findings, word.partition("=")[0])]
    return " · ".join(parts + [code_span(" ".join(words))] * bool(words))


def _changes_runs(findings: Findings, key: str) -> bool:
    """True if a key of the command line changes what runs compute."""
    root = key.partition(".")[0]
    is_of_run = root in {field.name for field in fields(findings.config)}
    return root == "start" or (is_of_run and NOT_IDENTITY.isdisjoint((key, root)))


def _in_words(findings: Findings, law: Fitted | None) -> Section | None:
    """Return what tables do not say: the law, why a search's own value is no result, of which code the runs are."""
    search, codes, texts = findings.search, findings.evidence.codes, list[str]()
    if law is not None:
        texts.append(scaling.conclusion(law))
    if search is not None and WINNER in findings.study.arms:
        texts.append(CURSE)
    if len(codes) > 1:
        each = ", ".join(f"{escape(code)} ({count} run{'s' * (count > 1)})" for code, count in codes.items())
        allowed = "Verdicts are drawn from the mixture, as sweep.allow_mixed_code=true requests."
        refused = (
            "An edit of the code can change numbers, so nothing is concluded from the mixture, unless the sweep is"
            " launched with sweep.allow_mixed_code=true. For runs of one code, delete the folders of the others and"
            " launch again with code= and its digest."
        )
        mixture = allowed if findings.study.allow_mixed_code else refused
        texts.append(f"The runs are of different code: {each}. {mixture}")
    return Section("The result in words", [*map(Paragraph, texts)]) if texts else None


def _leads(findings: Findings, law: Fitted | None) -> list[Figure]:
    """Return the figure that answers the question, and then the differences if they are another one."""
    figures = []
    if law is not None:
        figures.append(law_figure(law))
    known = {arm: each for arm, each in findings.comparisons.items() if each.difference.n and not each.withheld}
    if differences := {arm: comparison.difference for arm, comparison in known.items()}:
        caption = (
            "Differences from the baseline. Dots are seeds, large markers are means, bars are simultaneous"
            f" {percent(findings.look.level)} % intervals. The grey band is the equivalence margin."
        )
        drawn = differences_to_baseline(findings.study, findings.evidence, differences)
        figures.append(Figure("differences", "Differences from the baseline", caption, *drawn))
    return figures


def _learning_curves(findings: Findings) -> list[Block]:
    study, evidence = findings.study, findings.evidence
    if not evidence.curve:
        return []
    what = "pairs" if study.base is None else "data"
    caption = (
        f"Learning curves on held-out {what}. Lines are means over seeds, bands are 95 % intervals. The left half"
        " leaves out the value before training, the right half the controls."
    )
    if not study.compares_curves:
        caption += " Arms are not comparable in this loss, because their decoders have other tasks."
    points = evidence.curves.dropna(subset=[evidence.curve])
    lacking = set(evidence.runs["arm"]) - set(points.loc[points["samples"] > 0, "arm"])
    if labels := [study.label(arm) for arm in study.conditions if arm in lacking]:
        caption += f" No curve: {'; '.join(labels)}."
    if study.base is None:
        caption += " The curves use fewer pairs than the table."
    return [Figure("learning_curves", "Learning curves", caption, *learning_curves(study, evidence))]


def _examples(findings: Findings) -> tuple[Section | None, dict[str, bytes]]:
    """Return images with the caption that each arm wrote, and the images by path; None and no image if none has any."""
    study, evidence = findings.study, findings.evidence
    arms = [arm for arm in study.arms if evidence.examples.get(arm)]  # one that reads no captions writes none
    table, images = Table(["image", "reference", *map(study.label, arms)], name="examples"), list[str]()
    for number, examples in enumerate(zip(*(evidence.examples[arm] for arm in arms), strict=True), 1):
        images.append(examples[0]["png"])
        written = [escape(example["written"]) or "*nothing*" for example in examples]
        table.rows.append([str(number), escape(examples[0]["reference"]), *written])
    if not images:
        return None, {}
    has_end = {cell.arm: value_at(cell.config, "objective.supervise_eos") for cell in findings.cells}
    cut = [study.label(arm) for arm in arms if not has_end[arm]]
    about = (
        "Captions of held-out images by each arm's first seed, with greedy decoding and full attention. A few captions"
        " of one seed decide nothing."
    )
    if cut:
        which = f" of {'; '.join(cut)}" if len(cut) < len(arms) else ""
        about += (
            f" The end of text is not a training target{which}, as in the released configuration, so captions are cut"
            " to the reference's number of tokens."
        )
    shown = Paragraph(f"![images 1 to {len(images)}]({SHEET})")
    return Section("Examples", [Paragraph(about), shown, table]), {SHEET: _sheet(images).encode()}


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
