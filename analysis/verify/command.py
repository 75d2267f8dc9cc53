"""``python -m aimv2.analysis.verify``: check a finished run, print the outcomes and write a report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from aimv2.analysis.document.write import check_replaceable, write
from aimv2.analysis.usage import VerifyOptions, verify_usage
from aimv2.analysis.verify.balance import balance
from aimv2.analysis.verify.captions import captions
from aimv2.analysis.verify.masks import masks
from aimv2.analysis.verify.pixels import pixels, render
from aimv2.analysis.verify.prefix import prefix_lengths
from aimv2.analysis.verify.report import Outcomes, document, summary
from aimv2.analysis.verify.trained_run import TrainedRun, find, load
from aimv2.base.files import writable_folder
from aimv2.config.arguments import HELP
from aimv2.config.options import read_options

NUM_SHOWN = 8
STYLES = {"PASS": "green", "FAIL": "bold red", "NOT APPLICABLE": "yellow"}


console = Console(highlight=False, markup=False, soft_wrap=True)


def verify_command(arguments: Sequence[str]) -> int:
    """Check one finished run, print a line per check and write the report.

    Returns:
        0 if no check fails, else 1.

    Raises:
        UsageError: a key is unknown; or the run does not exist, or is unfinished, broken or untrained; or the
            folder of the report has other files.
    """
    if HELP & set(arguments):
        print(verify_usage(), end="")
        return 0
    first = [text if "=" in text else f"run={text}" for text in arguments[:1]]
    options = read_options(VerifyOptions, [*first, *arguments[1:]])
    run = load(find(options.run, Path(options.runs_dir)))
    out = writable_folder(options.out, "out")
    check_replaceable(out)
    torch.set_num_threads(run.config.threads)
    console.print(f"run {run.folder.name} in {run.folder.path.parent}")
    findings = check(run)
    for outcome in findings.checks:
        console.print(str(outcome), style=STYLES[outcome.verdict])
    console.print(*summary(run, findings), sep="\n")
    console.print(f"report: {write(document(run, findings, arguments), out)}")
    return int(any(outcome.passes is False for outcome in findings.checks))


def check(run: TrainedRun) -> Outcomes:
    """Run all checks; the pairs to show are the first of the held-out ones, whose order is random."""
    rows = np.arange(min(NUM_SHOWN, len(run.held_out)))
    predicted = pixels(run)
    return Outcomes(
        prefix_lengths=prefix_lengths(run),
        masks=masks(run),
        balance=balance(run),
        pixels=predicted,
        pictures=render(run, rows) if predicted.errors else {},
        captions=captions(run, rows),
    )
