"""``python -m aimv2.analysis.verify``: check a finished run, print the outcomes and write a report of one page."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from aimv2.analysis.document.model import Block, Document, Paragraph, Section, Table
from aimv2.analysis.document.write import check_replaceable, write
from aimv2.analysis.sections.runs import credits_text
from aimv2.analysis.usage import VerifyOptions, verify_usage
from aimv2.analysis.verify.checks import Check, checks_of
from aimv2.analysis.verify.trained_run import TrainedRun, find, load
from aimv2.base.files import writable_folder
from aimv2.config.arguments import HELP, read_options
from aimv2.config.recipes.scales import SCALES, demo
from aimv2.data.provenance import credits_of
from aimv2.evaluation.pictures import drawn_predictions

STYLES: dict[str, str] = {"PASS": "green", "FAIL": "bold red", "NOT APPLICABLE": "yellow"}


def verify_command(arguments: Sequence[str]) -> int:
    """Check one finished run, print a line per check and write the report; return 0 if no check fails, else 1."""
    if HELP & set(arguments):
        print(verify_usage(), end="")
        return 0
    first = [text if "=" in text else f"run={text}" for text in arguments[:1]]
    options = read_options(VerifyOptions, [*first, *arguments[1:]])
    run = load(find(options.run, Path(options.runs_dir)))
    out = writable_folder(options.out, "out")
    check_replaceable(out)
    torch.set_num_threads(run.config.threads)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"run {run.name}")
    checks = checks_of(run, Path(options.report))
    for check in checks:
        console.print(str(check), style=STYLES[check.verdict])
    console.print(summary(run, checks))
    console.print(f"report: {write(document(run, checks, arguments), out)}")
    return int(any(check.passes is False for check in checks))


def summary(run: TrainedRun, checks: Sequence[Check]) -> str:
    """Return how many checks passed and failed, and whether the run is too short to have learned."""
    config, counts = run.config, Counter[str](check.verdict for check in checks)
    text = f"{len(checks)} checks: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in STYLES) + "."
    recipe = SCALES.get(config.scale, demo)()
    if counts["FAIL"] and config.budget.samples < recipe.budget.samples:
        text += (
            f" The run is short: it has seen {config.budget.samples:,} samples. Before you look for a fault, check a"
            f" run of `python -m aimv2 train scale={recipe.scale} objective.name={config.objective.name}`, which sees"
            f" {recipe.budget.samples:,}."
        )
    return text


def document(run: TrainedRun, checks: Sequence[Check], arguments: Sequence[str]) -> Document:
    """Return the report; ``arguments`` are those of the command."""
    config = run.config
    rows: list[list[str]] = [
        [check.name, f"**{check.verdict}**", check.finding, check.criterion or "–"] for check in checks
    ]
    note = (
        "Intervals are 95 % over evaluation items. Masks are checked with the trained weights on the first images of"
        " training: one patch, feature or token at a time is perturbed, and all outputs that must not see it stay"
        f" bitwise equal. {credits_text(credits_of([config]))}"
    )
    blocks: list[Block] = [Table(["check", "verdict", "found", "criterion"], rows, "checks"), Paragraph(note)]
    files: dict[str, bytes] = {}
    at_end = replace(config, log=replace(config.log, picture_points=1))
    draw = drawn_predictions(run.objective, run.data, at_end, lambda png, step: files.update({"predictions.png": png}))
    draw(run.model, config.budget.num_steps)
    if files:
        caption = (
            "![Held-out images, their prefixes, predicted patches and captions](predictions.png) The first held-out"
            " images, not hand-picked. Each patch after the prefix is predicted from the true patches before it, and"
            " gets the true patch's brightness and contrast, as in MAE. Captions are greedy."
        )
        blocks.append(Paragraph(caption))
    command = shlex.join(["python", "-m", "aimv2.analysis.verify", *arguments])
    return Document(
        title=f"Verification of run {run.name}",
        subtitle=f"Made by `{command}`: objective {config.objective.name}, scale {config.scale},"
        f" {config.budget.samples:,} samples, seed {config.seed}; computed here on {config.device} in float32.",
        answer=summary(run, checks),
        sections=[Section("Checks", blocks)],
        numbers={
            "run": run.name,
            "checks": [check._asdict() | {"verdict": check.verdict} for check in checks],
        },
        files=files,
    )
