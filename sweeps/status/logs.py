"""The logs of a run: its attempts and how each ended, the end of its metrics, and the traceback of a failure."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from aimv2.runs.failure import read_failure
from aimv2.runs.lease import holder, is_held
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import last_row

SHOWN_ROWS = 5
SHOWN_LINES = 20
INTERRUPTED = "interrupted"


# Returns the trials with a run that a search pruned, each with its samples, given the runs folder and the run's name.
PrunedTrials = Callable[[Path, str], Mapping[str, float]]


def print_logs(run: RunFolder, console: Console, pruned_trials: PrunedTrials) -> None:
    """Print the logs of a run.

    Raises:
        UsageError: the record of a search that may have pruned the run cannot be read.
    """
    state, attempts = run.state(), sorted(run.path.glob("attempts/[0-9]*"))
    console.print(f"{run.path}: {'not done' if state == 'new' else state}", soft_wrap=True)
    pruned = _pruned(run, attempts, pruned_trials)
    for attempt in attempts:
        owner = holder(attempt)
        where = f"{str(owner.get('host', 'unknown host')).partition('/')[0]}, process {owner.get('pid', 'unknown')}"
        console.print(f"attempt {attempt.name}: {where}, {pruned.get(attempt) or _ending(attempt)}", soft_wrap=True)
        log = Path(owner.get("log") or "")
        if log.is_file():
            lines = log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
            console.print(f"log {log}:", *lines, sep="\n  ", markup=False, soft_wrap=True)
    for row in run.rows()[-SHOWN_ROWS:]:
        console.print(json.dumps(row), markup=False, soft_wrap=True)
    failed = sorted(run.path.glob("attempts/*/failure.json"))
    if failed and not run.is_done:
        console.print(read_failure(failed[-1].parent).traceback, markup=False, soft_wrap=True)


def _ending(attempt: Path) -> str:
    if (attempt / "failure.json").exists():
        failure = read_failure(attempt)
        return f"failed, {failure.cause}: {failure.message}"
    endings = {"result.json": "finished", INTERRUPTED: "interrupted"}
    still = "running" if is_held(attempt) else "died without a record"
    return next((ending for name, ending in endings.items() if (attempt / name).exists()), still)


def _pruned(run: RunFolder, attempts: Sequence[Path], pruned_trials: PrunedTrials) -> dict[Path, str]:
    """Return the attempts that ended because a search pruned its trial, each with how that is said.

    It is the first attempt that got as far as the trial did.
    """
    if not any((attempt / INTERRUPTED).exists() for attempt in attempts):
        return {}
    found = dict[Path, str]()
    for trial, samples in pruned_trials(run.path.parent, run.name).items():
        reached = (attempt for attempt in attempts if last_row(attempt).get("samples", -1) >= samples)
        if (attempt := next(reached, None)) is not None and (attempt / INTERRUPTED).exists():
            found[attempt] = f"pruned, as {trial}; its checkpoint stays for a sweep that needs this run"
    return found
