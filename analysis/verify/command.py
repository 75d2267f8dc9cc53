"""``python -m analysis.verify``: the first experiments on a finished run, as lines and as a report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from aimv2.config.arguments import HELP, key_values
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.runs.files import writable_folder
from analysis.verify.balance import balance
from analysis.verify.captions import captions
from analysis.verify.line import Line
from analysis.verify.masks import masks
from analysis.verify.pixels import paint, pixels
from analysis.verify.prefix import prefix_lengths
from analysis.verify.report import Findings, summary, write_report
from analysis.verify.subject import Subject, find, load

USAGE = """usage: python -m analysis.verify [run=RUN] [key=value ...]

Look at a finished run as the first experiments of a re-implementation would: prefix lengths and masks, the balance of
the two losses, predicted pixels, captions. Prints a PASS or FAIL line for each and writes a report. The exit status is
0 when nothing fails, 1 when a line fails.

  run=runs/NAME                a run's folder, or its name in runs_dir; first, run= may be left out; without it, the
                               newest finished trained run of runs_dir
  runs_dir=runs                where runs are kept
  out=reports/verify           where report.md and its pictures go; other files there are left alone
  debug=true                   show the traceback of an error
"""
DEFAULTS = {"runs_dir": "runs", "out": "reports/verify"}
NUM_SHOWN = 8
STYLES = {"PASS": "green", "FAIL": "bold red", "NOT APPLICABLE": "yellow", "SHOWN": "cyan"}

console = Console()


def verify_command(arguments: Sequence[str]) -> int:
    """Look at one finished run; print a line per check and write the report.

    Args:
        arguments: what follows ``verify``: ``run=`` (a run's folder, or its name in ``runs_dir``; first, it may stand
            without its key), ``runs_dir=`` (whose newest finished trained run is taken without ``run=``) and ``out=``.

    Returns:
        0 if nothing fails, else 1.

    Raises:
        UsageError: a key is unknown, or there is no such run, or it is not finished, broken or untrained.
    """
    if HELP & set(arguments):
        print(USAGE, end="")
        return 0
    first, rest = arguments[:1], arguments[1:]
    named = [text if "=" in text else f"run={text}" for text in first]
    values = DEFAULTS | key_values([*named, *rest], ("run", *DEFAULTS))
    run = find(values.get("run"), Path(values["runs_dir"]))
    subject = load(run)
    out = writable_folder(values["out"], "out")
    torch.set_num_threads(subject.config.threads)
    console.print(f"run {run.name} in {run.path.parent}", highlight=False, markup=False, soft_wrap=True)
    findings = look_at(subject)
    for sentence in summary(subject, findings):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    report = write_report(subject, findings, arguments, out)
    console.print(f"report: {report}", highlight=False, markup=False, soft_wrap=True)
    return int(any(line.verdict == "FAIL" for line in findings.lines))


def look_at(subject: Subject) -> Findings:
    """Do all experiments; each prints its lines as soon as it has them."""
    lengths = prefix_lengths(subject)
    _say([lengths.line])
    mask_lines = masks(subject)
    _say(mask_lines)
    balanced = balance(subject)
    _say(balanced.lines)
    predicted = pixels(subject)
    _say([predicted.line])
    rows = _shown_rows(subject)
    written = captions(subject, rows)
    _say(written.lines)
    paintings = paint(subject, rows) if isinstance(subject.model, EncoderDecoder) and predicted.errors else []
    return Findings(lengths, mask_lines, balanced, predicted, paintings, written)


def _shown_rows(subject: Subject) -> np.ndarray:
    """The held-out pairs that are shown: the first by sample id, which is a hash, so nobody chose them."""
    rank = subject.held_out.table["sample_id"].rank()
    return np.flatnonzero(rank <= NUM_SHOWN)


def _say(lines: list[Line]) -> None:
    for line in lines:
        style = STYLES[line.verdict]
        console.print(str(line), style=style, highlight=False, markup=False, soft_wrap=True)
