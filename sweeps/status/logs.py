"""The logs of a run: its attempts and how each ended, the end of its metrics, and the traceback of a failure."""

import json
from pathlib import Path

from rich.console import Console

from aimv2.runs.failure import read_failure
from aimv2.runs.lease import holder, is_held
from aimv2.runs.record import RunFolder

SHOWN_ROWS = 5
SHOWN_LINES = 20


def print_logs(run: RunFolder, console: Console) -> None:
    """Print the logs of a run."""
    state, attempts = run.state(), sorted(run.path.glob("attempts/[0-9]*"))
    console.print(f"{run.path}: {'not done' if state == 'new' else state}", soft_wrap=True)
    for attempt in attempts:
        owner = holder(attempt)
        where = f"{str(owner.get('host', 'unknown host')).partition('/')[0]}, process {owner.get('pid', 'unknown')}"
        console.print(f"attempt {attempt.name}: {where}, {_ending(attempt)}", soft_wrap=True)
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
    endings = {"result.json": "finished", "interrupted": "interrupted"}
    still = "running" if is_held(attempt) else "died without a record"
    return next((ending for name, ending in endings.items() if (attempt / name).exists()), still)
