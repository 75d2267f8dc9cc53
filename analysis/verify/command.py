"""``python -m analysis.verify``: check a finished run, print the outcomes and write a report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from aimv2.base.files import writable_folder
from rich.console import Console

from aimv2.config.arguments import HELP, key_values
from analysis.verify.balance import balance
from analysis.verify.captions import captions
from analysis.verify.masks import masks
from analysis.verify.pixels import pixels, render
from analysis.verify.prefix import prefix_lengths
from analysis.verify.report import Findings, summary, write_report
from analysis.verify.trained_run import TrainedRun, find, load

USAGE = """usage: python -m analysis.verify [run=RUN] [key=value ...]

Check a finished run: prefix lengths, masks, the balance of the two losses, predicted pixels, captions. Print PASS or
FAIL for each check and write a report. The exit status is 0 if no check fails, 1 if one does.

  run=runs/NAME                the run's folder, or its name in runs_dir; run= may be left out if it comes first; the
                               default is the newest finished trained run of runs_dir
  runs_dir=runs                the folder of runs
  out=reports/verify           the folder of the report; other files in it are left alone
  debug=true                   show the traceback of an error
"""
DEFAULTS = {"runs_dir": "runs", "out": "reports/verify"}
NUM_SHOWN = 8
STYLES = {"PASS": "green", "FAIL": "bold red", "NOT APPLICABLE": "yellow"}

console = Console(highlight=False, markup=False, soft_wrap=True)


def verify_command(arguments: Sequence[str]) -> int:
    """Check one finished run, print a line per check and write the report.

    Returns:
        0 if no check fails, else 1.

    Raises:
        UsageError: a key is unknown; or the run does not exist, or is unfinished, broken or untrained.
    """
    if HELP & set(arguments):
        print(USAGE, end="")
        return 0
    first = [text if "=" in text else f"run={text}" for text in arguments[:1]]
    values = DEFAULTS | key_values([*first, *arguments[1:]], ("run", *DEFAULTS))
    run = load(find(values.get("run"), Path(values["runs_dir"])))
    out = writable_folder(values["out"], "out")
    torch.set_num_threads(run.config.threads)
    console.print(f"run {run.folder.name} in {run.folder.path.parent}")
    findings = check(run)
    for outcome in findings.checks:
        console.print(str(outcome), style=STYLES[outcome.verdict])
    console.print(*summary(run, findings), sep="\n")
    console.print(f"report: {write_report(run, findings, arguments, out)}")
    return int(any(outcome.passes is False for outcome in findings.checks))


def check(run: TrainedRun) -> Findings:
    """Run all checks; the pairs to show are the first of the held-out ones, whose order is random."""
    rows = np.arange(min(NUM_SHOWN, len(run.held_out)))
    predicted = pixels(run)
    return Findings(
        prefix_lengths=prefix_lengths(run),
        masks=masks(run),
        balance=balance(run),
        pixels=predicted,
        pictures=render(run, rows) if predicted.errors else {},
        captions=captions(run, rows),
    )
