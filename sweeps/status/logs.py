"""The logs of a run: its attempts and how each ended, the end of its metrics, and the traceback of a failure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from aimv2.base.errors import UsageError
from aimv2.runs.failure import read_failure
from aimv2.runs.lease import holder, is_held
from aimv2.runs.record import RunFolder

SHOWN_ROWS = 5
SHOWN_LINES = 20


def named_run(runs_dir: Path, typed: str) -> RunFolder:
    """Return the run whose name, or the path of whose folder, begins so; a UsageError unless there is exactly one."""
    found = sorted(path.name for path in runs_dir.glob("v*-*") if path.name.startswith(Path(typed).name))
    if len(found) != 1:
        where = f"in {str(runs_dir)!r} begin with {Path(typed).name!r}"
        raise UsageError(f"{len(found)} runs {where}; name exactly one that a worker has started")
    return RunFolder(runs_dir, found[0])


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
    if rows := run.rows()[-SHOWN_ROWS:]:
        console.print(_table(rows))
    failed = sorted(run.path.glob("attempts/*/failure.json"))
    if failed and not run.is_done:
        console.print(read_failure(failed[-1].parent).traceback, markup=False, soft_wrap=True)


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Render metric rows as the columns of a table, since a row has more values than a line has room for."""
    steps = (Column(f"{row.get('step', '')}", justify="right") for row in rows)
    table = Table(Column("step", no_wrap=True), *steps, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in dict.fromkeys(name for row in rows for name in row if name != "step"):
        table.add_row(name, *(_shown(row.get(name)) for row in rows))
    return table


def _shown(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) and value < 1e6 else f"{value:.4g}"
    return "" if value is None else str(value)


def _ending(attempt: Path) -> str:
    if (attempt / "failure.json").exists():
        failure = read_failure(attempt)
        return f"failed, {failure.cause}: {failure.message}"
    endings = {"result.json": "finished", "interrupted": "interrupted"}
    still = "running" if is_held(attempt) else "died without a record"
    return next((ending for name, ending in endings.items() if (attempt / name).exists()), still)
