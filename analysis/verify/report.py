"""The report of a verification: Markdown and its pictures, made whole before anything old is replaced."""

import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from aimv2.config.run_config import to_dict
from aimv2.config.scales import SCALES, demo
from aimv2.data.transforms import unnormalise
from aimv2.errors import UsageError
from aimv2.objectives import objective
from analysis.verify.balance import ALPHAS, Balance, share
from analysis.verify.captions import NUM_BEAMS, TOP_P, Captions
from analysis.verify.line import Line
from analysis.verify.pictures import draw_balance, draw_paintings, draw_prefix_lengths, save_thumbnail
from analysis.verify.pixels import FRACTIONS, Painting, Pixels
from analysis.verify.prefix import PrefixLengths
from analysis.verify.subject import Subject

OURS = re.compile(r"report\.md|prefix_lengths\.svg|balance\.svg|pixels\.png|example_\d\d\.png")  # what we may delete


class Findings(NamedTuple):
    """What all experiments found."""

    prefix_lengths: PrefixLengths
    masks: list[Line]
    balance: Balance
    pixels: Pixels
    paintings: list[Painting]
    captions: Captions

    @property
    def lines(self) -> list[Line]:
        return [
            self.prefix_lengths.line,
            *self.masks,
            *self.balance.lines,
            self.pixels.line,
            *self.captions.lines,
        ]


def summary(subject: Subject, findings: Findings) -> list[str]:
    """How many lines passed and failed, and what else has to be known to read them: a sentence each."""
    config = subject.config
    verdicts = [line.verdict for line in findings.lines]
    passed, failed, absent = (verdicts.count(verdict) for verdict in ("PASS", "FAIL", "NOT APPLICABLE"))
    applies_not = f", {absent} NOT APPLICABLE" if absent else ""
    sentences = [f"{passed + failed + absent} lines: {passed} PASS, {failed} FAIL{applies_not}."]
    name = config.objective.name
    if not {"captions", "pixels"} & set(objective(name).reports):
        judged = [line.title for line in findings.lines if line.verdict in ("PASS", "FAIL")]
        sentences.append(
            f"Objective {name} predicts neither pixels nor captions, so their lines do not apply;"
            f" verified: {', '.join(judged) or 'nothing'}. What it has instead, retrieval, is in the run's result."
        )
    recipe = SCALES.get(config.scale, demo)()
    if failed and config.budget.samples < recipe.budget.samples:
        sentences.append(
            f"The run is short: it has seen {config.budget.samples:,} samples. Before looking for a fault, look at that"
            f" of `python -m aimv2 train scale={recipe.scale} objective.name={name}`, which sees"
            f" {recipe.budget.samples:,}."
        )
    return sentences


def write_report(subject: Subject, findings: Findings, arguments: Sequence[str], out: Path) -> Path:
    """Write ``out/report.md`` and its pictures; other files there are left alone.

    Everything is made in a folder beside ``out`` and moved in file by file at the end, the text last.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        workspace = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.resolve().parent))
        try:
            _draw(subject, findings, workspace)
            text = _text(subject, findings, arguments)
            (workspace / "report.md").write_text(text, encoding="utf-8")
            _swap_in(workspace, out)
        finally:
            shutil.rmtree(workspace, ignore_errors=True)
    except OSError as error:
        raise UsageError(f"out={str(out)!r} cannot be written: {error.strerror}") from error
    return out / "report.md"


def _swap_in(workspace: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    new = sorted(workspace.iterdir(), key=lambda path: path.name == "report.md")
    for path in new:
        path.replace(out / path.name)
    kept = {path.name for path in new}
    for path in out.iterdir():
        if OURS.fullmatch(path.name) and path.name not in kept:
            path.unlink()


def _draw(subject: Subject, findings: Findings, folder: Path) -> None:
    unit = "steps" if subject.config.prefix.per == "batch" else "samples"
    if findings.prefix_lengths.count_I.any():
        draw_prefix_lengths(findings.prefix_lengths, unit, folder / "prefix_lengths.svg")
    if not (findings.balance.recorded.empty and findings.balance.at_end.empty):
        draw_balance(findings.balance, subject.config.objective.pixel_weight, folder / "balance.svg")
    if findings.pixels.errors:
        draw_paintings(findings.paintings, folder / "pixels.png")
    for number, caption in enumerate(findings.captions.shown, 1):
        save_thumbnail(unnormalise(subject.names.image[caption.row]), folder / f"example_{number:02d}.png")


def _text(subject: Subject, findings: Findings, arguments: Sequence[str]) -> str:
    config = subject.config
    command = shlex.join(["python", "-m", "aimv2", "verify", *arguments])
    parts = [
        f"# Verification of run {subject.run.name}",
        f"{' '.join(summary(subject, findings))} Made by `{command}` from `{subject.run.path}`: objective"
        f" {config.objective.name}, scale {config.scale}, {config.budget.samples:,} samples, seed"
        f" {config.seed}; computed here on {config.device} in float32.",
        _table(
            ["", "what", "verdict", "found", "asked"],
            [
                [line.number, line.title, f"**{line.verdict}**", line.found, line.criterion or "–"]
                for line in findings.lines
            ],
        ),
        "Intervals are 95 % over concepts, because variants of one concept are near copies. All draws are functions of"
        " fixed addresses: the same run gives the same report.",
        *_prefix_section(findings.prefix_lengths),
        *_balance_section(findings.balance, config.objective.pixel_weight),
        *_pixel_section(subject, findings.pixels),
        *_caption_section(subject, findings.captions),
        "## Config",
        f"```json\n{json.dumps(to_dict(config), indent=1, ensure_ascii=False)}\n```",
        "Images: OpenMoji (CC BY-SA 4.0), Material Design Icons (Apache-2.0), Font Awesome Free (CC BY 4.0).",
    ]
    return "\n\n".join(parts) + "\n"


def _prefix_section(found: PrefixLengths) -> list[str]:
    parts = ["## 1 Prefix lengths and masks"]
    if found.count_I.any():
        parts += [
            "![Prefix lengths drawn in training, and their law](prefix_lengths.svg)",
            f"Bars: how often each prefix length was drawn in {found.count_I.sum():,} draws. Marks: the law."
            " Neighbouring lengths are joined for the test until each bin expects 5 draws. A sound law fails it at one"
            " seed in a thousand.",
        ]
    else:
        parts.append(f"Prefix lengths are not applicable: {found.line.found}.")
    return [
        *parts,
        "For the masks, one patch, feature or token at a time is perturbed on images of the first training batches,"
        " under training's mask and with the trained weights. Whatever must not see it has to stay the same bit by"
        " bit.",
    ]


def _balance_section(found: Balance, alpha: float) -> list[str]:
    parts = ["## 2 Balance of the two losses"]
    if found.recorded.empty and found.at_end.empty:
        return [*parts, f"Not applicable: {found.lines[-1].found}."]
    parts += [
        "![Gradients of both losses on the shared decoder](balance.svg)",
        "Left: L2 norm of each unweighted loss's gradient on the blocks of the shared decoder, and the cosine between"
        " the two, at the points that training recorded, one batch each. Right: the weighted ratio on the last training"
        " batches with the trained weights, mean over batches as line and their range as band. The weights were trained"
        f" with alpha {alpha:g}; another alpha would have made others of them, so the line says how the two gradients"
        " would be weighed from here on, not what training with that alpha gives.",
    ]
    if not found.at_end.empty:
        rows = [
            [f"{value:g}", f"{value * found.end_ratio:.3f}", f"{100 * share(found.end_ratio, value):.1f} %"]
            for value in sorted({*ALPHAS, alpha})
        ]
        columns = ["alpha", "weighted ratio, pixel / text", "pixel loss's share of the sum of both norms"]
        parts.append(_table(columns, rows))
    return parts


def _pixel_section(subject: Subject, found: Pixels) -> list[str]:
    parts = ["## 3 Pixels"]
    if not found.errors:
        return [*parts, f"Not applicable: {found.line.found}."]
    rows = [
        [
            f"{fraction:g}",
            *(f"{values.mean():.4f}" for values in errors),
            str(found.advantage[fraction]),
            f"{100 * (errors.model_N < errors.mean_N).mean():.0f} %",
        ]
        for fraction, errors in found.errors.items()
    ]
    columns = ["prefix", "network", "mean", "previous patch", "network minus mean", "images better than the mean"]
    if subject.config.objective.pixel_targets == "standardised":
        mean = "each patch's own, over all its values and colours, which standardised targets take as known"
        painting = (
            "A standardised prediction lacks the patch's brightness and contrast and is painted with the true patch's"
            " mean and deviation, as MAE paints; colours and shapes are the network's own. The last column has those"
            " means alone: what is in the picture without any prediction."
        )
    else:
        mean, painting = "the mean patch of these images, the best constant", "Raw predictions are painted as they are."
    return [
        *parts,
        _table(columns, rows),
        "Mean squared error of the"
        f" {subject.config.objective.pixel_targets} patches after the prefix. The mean is {mean}; the previous patch in"
        " reading order is repeated as it stands in the targets.",
        "![Held-out images, prefixes, and predicted patches](pixels.png)",
        f"Held-out images in the order of a hash, not chosen. After prefixes of {_listed(FRACTIONS)} of the patches"
        " (the rest grey), the prediction of every later patch. Each is predicted from the true patches before it, one"
        f" step ahead; nothing is predicted from predictions. {painting}",
    ]


def _caption_section(subject: Subject, found: Captions) -> list[str]:
    parts = ["## 3 Captions"]
    if not found.shown:
        return [*parts, f"Not applicable: {found.lines[-1].found}."]
    rows = [
        [
            f"![](example_{number:02d}.png)",
            _escape(caption.reference),
            f"{caption.perplexity:,.0f}",
            *(_escape(text) for text in (caption.greedy, caption.beam, caption.nucleus)),
        ]
        for number, caption in enumerate(found.shown, 1)
    ]
    columns = ["image", "caption", "its perplexity", "greedy", f"beam ({NUM_BEAMS})", f"nucleus ({TOP_P:g})"]
    parts.append(_table(columns, rows))
    notes = ["Held-out images in the order of a hash, not chosen; training showed none of their concepts."]
    if subject.config.model.decoder.order == "text_first":
        notes.append("This decoder writes before it sees the image, so captions do not depend on it.")
    if subject.config.objective.supervise_eos:
        notes.append("Captions end where the network ends them.")
    else:
        notes.append(
            "End-of-text is not supervised, as in the released configuration, so the network never learned to stop;"
            " captions are as long as the reference, in tokens, and that much of the reference is given away."
        )
    notes.append("Perplexity is per token, of the reference, given the image with full attention in the encoder.")
    return [*parts, " ".join(notes)]


def _listed(values: Sequence[float]) -> str:
    *first, last = (f"{value:g}" for value in values)
    return f"{', '.join(first)} and {last}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: str) -> str:
    """Text from captions must not become markup or break a table."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text).replace("\n", " ")
