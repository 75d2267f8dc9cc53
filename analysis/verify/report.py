"""The report of a verification, as a document."""

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from aimv2.analysis.document.model import Block, Code, Document, Figure, Section, Table
from aimv2.analysis.document.style import style
from aimv2.analysis.document.template import blocks_of
from aimv2.analysis.sections.runs import credits_text
from aimv2.analysis.verify.balance import Balance
from aimv2.analysis.verify.captions import Captions
from aimv2.analysis.verify.check import Check
from aimv2.analysis.verify.figures import draw_balance, draw_pictures, draw_prefix_lengths, thumbnail
from aimv2.analysis.verify.pixels import Pixels
from aimv2.analysis.verify.prefix import PrefixLengths
from aimv2.analysis.verify.trained_run import TrainedRun
from aimv2.base.markdown import escape
from aimv2.config.recipes.scales import SCALES, demo
from aimv2.config.serialization import to_dict
from aimv2.data.sources.credits import credits_of
from aimv2.data.transforms import unnormalise


class Outcomes(NamedTuple):
    """The outcomes of all checks."""

    prefix_lengths: PrefixLengths
    masks: list[Check]
    balance: Balance
    pixels: Pixels
    pictures: dict[str, list[np.ndarray]]
    captions: Captions

    @property
    def checks(self) -> list[Check]:
        losses = [*self.balance.checks, self.pixels.check, *self.captions.checks]
        return [self.prefix_lengths.check, *self.masks, *losses]


def summary(run: TrainedRun, findings: Outcomes) -> list[str]:
    """Return how many checks passed and failed, and facts needed to interpret that: a sentence each."""
    config, checks = run.config, findings.checks
    name, recipe = config.objective.name, SCALES.get(config.scale, demo)()
    counts = Counter(check.verdict for check in checks)
    absent = f", {counts['NOT APPLICABLE']} NOT APPLICABLE" if counts["NOT APPLICABLE"] else ""
    sentences = [f"{len(checks)} checks: {counts['PASS']} PASS, {counts['FAIL']} FAIL{absent}."]
    if not {"captions", "pixels"} & set(run.objective.reports):
        judged = [check.name for check in checks if check.passes is not None]
        sentences.append(
            f"Objective {name} predicts neither pixels nor captions, so their checks do not apply;"
            f" verified: {', '.join(judged) or 'nothing'}. Its own metric, retrieval, is in the run's result."
        )
    if counts["FAIL"] and config.budget.samples < recipe.budget.samples:
        sentences.append(
            f"The run is short: it has seen {config.budget.samples:,} samples. Before you look for a fault, check a run"
            f" of `python -m aimv2 train scale={recipe.scale} objective.name={name}`, which sees"
            f" {recipe.budget.samples:,}."
        )
    return sentences


def document(run: TrainedRun, findings: Outcomes, arguments: Sequence[str]) -> Document:
    """Return the report.

    Args:
        arguments: of the command.
    """
    config, shown = run.config, findings.captions.shown
    with style():
        named = dict(_blocks(run, findings))
    files = {_example(number): thumbnail(unnormalise(run.image[one.row])) for number, one in enumerate(shown, 1)}
    if findings.pictures:
        files["pixels.png"] = draw_pictures(findings.pictures)
    checks, *details = blocks_of(
        "verify", named, config=config, findings=findings, credits=credits_text(credits_of([config]))
    )
    command = shlex.join(["python", "-m", "aimv2.analysis.verify", *arguments])
    return Document(
        title=f"Verification of run {run.folder.name}",
        subtitle=f"Made by `{command}` from `{run.folder.path}`: objective {config.objective.name}, scale"
        f" {config.scale}, {config.budget.samples:,} samples, seed {config.seed}; computed here on {config.device} in"
        " float32.",
        answer=" ".join(summary(run, findings)),
        sections=[checks] if isinstance(checks, Section) else [],
        details=[block for block in details if isinstance(block, Section)],
        numbers={
            "run": run.folder.name,
            "checks": [one._asdict() | {"verdict": one.verdict} for one in findings.checks],
        },
        files=files,
    )


def _blocks(run: TrainedRun, findings: Outcomes) -> Iterator[tuple[str, Block]]:
    """Yield the tables and figures by their names in the template; those that do not apply are left out."""
    config, lengths = run.config, findings.prefix_lengths
    unit = "steps" if config.prefix.per == "batch" else "samples"
    rows: list[list[str]] = [
        [one.name, f"**{one.verdict}**", one.found, one.criterion or "–"] for one in findings.checks
    ]
    yield "checks", Table(["check", "verdict", "found", "criterion"], rows, "checks")
    values = to_dict(config)
    del values["data"]["cache_dir"]  # a place on this machine, of no use elsewhere
    yield "config", Code(json.dumps(values, indent=1, ensure_ascii=False), "json")
    if lengths.count_I.any():
        caption = (
            f"Bars: how often each prefix length occurred in {lengths.count_I.sum():,} draws. Marks: the configured"
            " distribution. The test joins neighbouring lengths until each bin expects 5 draws. A correct distribution"
            " fails it at one seed in a thousand."
        )
        alt = "Prefix lengths drawn in training, and their distribution"
        yield "prefix_lengths", Figure("prefix_lengths", alt, caption, *draw_prefix_lengths(lengths, unit))
    if not findings.balance.recorded.empty:
        caption = (
            "L2 norm of each unweighted loss's gradient on the blocks of the shared decoder, and the cosine between the"
            " two, at the points that training recorded, one batch each."
        )
        alt = "Gradients of both losses on the shared decoder"
        yield "balance", Figure("balance", alt, caption, *draw_balance(findings.balance))
    yield "pixels", _pixels(findings.pixels)
    yield "captions", _captions(findings.captions)


def _pixels(pixels: Pixels) -> Table:
    columns = ["prefix", "network", "mean", "network minus mean", "images better than the mean"]
    table = Table(columns, name="pixels")
    for fraction, errors in pixels.errors.items():
        means = [f"{error_N.mean():.4f}" for error_N in (errors.model_N, errors.mean_N)]
        better = f"{100 * (errors.model_N < errors.mean_N).mean():.0f} %"
        table.rows.append([f"{fraction:g}", *means, pixels.advantage[fraction].text(), better])
    return table


def _captions(captions: Captions) -> Table:
    table = Table(["image", "caption", "its perplexity", "written by the network"], name="captions")
    for number, one in enumerate(captions.shown, 1):
        image = f"![image {number}]({_example(number)})"
        table.rows.append([image, escape(one.reference), f"{one.perplexity:,.0f}", escape(one.written)])
    return table


def _example(number: int) -> str:
    return f"example_{number:02d}.png"
