"""python benchmarks/ledger.py [runs=10000] [workers=1000]: file operations of the ledger at scale.

Builds a runs folder with runs in every state and heartbeats of simulated workers in a temporary folder (TMPDIR), and
prints the tables of docs/cluster.md. Several sizes may be listed, as in runs=1000,10000.
"""

import contextlib
import io
import itertools
import multiprocessing
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # typed as a path: the code beside this file is meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from aimv2.base.interrupt import Interrupts
from rich.console import Console
from torch.optim.optimizer import register_optimizer_step_post_hook

from ablations.request import Request, write_request
from aimv2.runs.lease import HEARTBEAT_SECONDS, Presence
from sweeps.active_launches import WORKERS, new_launch
from sweeps.parse import parse
from sweeps.plan import Plan
from sweeps.tasks import Task, Work
from sweeps.worker import Worker
from tests.helpers.many_runs import write_runs
from tests.helpers.operations import counted
from tests.helpers.sweeps import board_of, small_sweep

ROOT = Path(__file__).parents[2]
USAGE = f"{__doc__}"
Counts = Mapping[str, float]  # of operations by kind (tests/helpers/operations.py)
STEP_SECONDS = 0.5  # of the worker that is measured, which writes rows every 10 steps
STEADY_SECONDS = 65.0  # with a checkpoint, every 60 s by default
NUM_BOARD_UPDATES = 60
NUM_STATUS = 5
SHARES = {"failed": 0.02, "interrupted": 0.02, "new": 0.1}  # of all runs; those without a worker are done


@dataclass(frozen=True)
class Ledger:
    """A runs folder, with the runs of each state in the order of the sweep, and a launch."""

    plan: Plan
    launch_dir: Path
    names: dict[str, list[str]]


def requested(num_runs: int, cache_dir: Path, runs_dir: Path) -> tuple[Request, Plan]:
    """Return a request of about this many runs, of four arms and their untrained encoders, and its plan."""
    size = (f"sweep.seeds={num_runs // 5}", "budget.samples=64000", f"runs_dir={runs_dir}", "dry_run=true")
    parsed = parse(small_sweep(cache_dir, *size))
    return parsed.request, parsed.plan


def build(request: Request, plan: Plan, num_workers: int) -> Ledger:
    """Write the folder, with every state in every arm."""
    number = {state: int(share * len(plan.runs)) for state, share in SHARES.items()}
    number["running"] = min(num_workers, (len(plan.runs) - sum(number.values())) * 9 // 10)
    number["done"] = len(plan.runs) - sum(number.values())
    states = [state for state, count in number.items() for _ in range(count)]
    random.Random(0).shuffle(states)
    names: dict[str, list[str]] = {}
    for cell, state in zip(request.cells, states, strict=True):
        names.setdefault(state, []).append(cell.name)
    write_runs(plan, {state: names[state] for state in names if state != "new"})
    write_request(plan.runs_dir, request)
    return Ledger(plan, new_launch(plan.runs_dir, plan.title, plan.runs), names)


@contextlib.contextmanager
def heartbeats(ledger: Ledger) -> Iterator[None]:
    """Let a process that appears to be on other hosts hold the launch and the running runs, and beat for them."""
    folders = [ledger.launch_dir]
    for name in ledger.names["running"]:
        worker = ledger.launch_dir / WORKERS / name[-12:]
        worker.mkdir(parents=True)
        folders += [worker, ledger.plan.runs_dir / name / "attempts" / "0001"]
    for folder in folders:
        for name in ("heartbeat", "holder.json"):
            (folder / name).unlink(missing_ok=True)  # a link to the first run's
    is_ready = multiprocessing.get_context("spawn").Event()
    process = multiprocessing.get_context("spawn").Process(target=_beat, args=(folders, is_ready), daemon=True)
    process.start()
    is_ready.wait()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _beat(folders: Sequence[Path], is_ready: Any) -> None:
    socket.gethostname = lambda: "another-host"
    for folder in folders:
        Presence(folder)
    is_ready.set()
    for beat in itertools.count(1):
        time.sleep(HEARTBEAT_SECONDS)
        for folder in folders:
            os.truncate(folder / "heartbeat", beat)


def measure_worker(ledger: Ledger, names: Sequence[str]) -> tuple[Counter[str], Counter[str], float]:
    """Return the operations of a worker until its first step, or its end if it finds no run; those of its training for
    STEADY_SECONDS; and the exact seconds of these."""
    tasks = [Task(name, ledger.plan.cell_of[name].config, after=0) for name in names]
    counts, interrupts = Counter[str](), Interrupts()
    seen: list[tuple[float, Counter[str]]] = []  # at each group of rows

    def on_rows(rows: list[dict[str, Any]]) -> None:
        if rows[-1]["step"] and not interrupts.is_out_of_time:
            seen.append((time.monotonic(), counts.copy()))
            interrupts.until(seen[0][0] + STEADY_SECONDS)

    hook = register_optimizer_step_post_hook(lambda *_: time.sleep(STEP_SECONDS))
    try:
        with counted(ledger.plan.runs_dir, counts):
            report = Worker(Work(tasks), ledger.launch_dir, on_rows, runs_per_gpu=None, interrupts=interrupts).work()
    finally:
        hook.remove()
    assert not report.problem, report.problem
    (started, first), (ended, last) = (seen[0], seen[-1]) if seen else ((0.0, counts), (0.0, counts))
    return first, last - first, ended - started


def measure_board(ledger: Ledger) -> list[Counter[str]]:
    """Return the operations of each of a few updates of a launch's display."""
    now, found = 0.0, []
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    board = board_of(ledger.plan, console, clock=lambda: now)
    with board.shown(is_live=True):
        for _ in range(NUM_BOARD_UPDATES):
            now += 1e6
            with counted(ledger.plan.runs_dir) as counts:
                board.update()
            found.append(counts)
    return found


def measure_status(ledger: Ledger) -> tuple[float, Counter[str]]:
    """Return the shortest wall time of ``manage.py status`` in seconds, and its operations."""
    from sweeps import manage

    words = ["status", f"runs_dir={ledger.plan.runs_dir}"]
    command, seconds = [sys.executable, ROOT / "sweeps" / "manage.py", *words], list[float]()
    for _ in range(NUM_STATUS):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    with counted(ledger.plan.runs_dir) as counts, contextlib.redirect_stdout(io.StringIO()):
        manage.manage(words)
    return min(seconds), counts


def measure(num_runs: int, num_workers: int) -> tuple[dict[str, Counts], float]:
    """Return the operations by their occasion, and the seconds of ``status``."""
    with tempfile.TemporaryDirectory() as temporary:
        cache = Path(tempfile.gettempdir()) / f"aimv2-benchmark-{os.getuid()}"  # of rendered pairs, for the next time
        ledger = build(*requested(num_runs, cache, Path(temporary) / "runs"), num_workers)
        ledger.plan.prepare_data()
        with heartbeats(ledger):
            first, *updates = measure_board(ledger)
            status_seconds, status = measure_status(ledger)
            taken = {*ledger.names["done"], *ledger.names["running"]}
            names = [name for name in ledger.plan.runs if name in taken]
            none, _, _ = measure_worker(ledger, names)
            some, steady, seconds = measure_worker(ledger, [*names, ledger.names["new"][0]])
    found: dict[str, Counts] = {
        "training, a second": {kind: count / seconds for kind, count in steady.items()},
        "a worker finds a run": some,
        "a worker finds none": none,
        "board, first update": first,
        "board, a later update": max(updates, key=Counter.total),
        "status": status,
    }
    return found, status_seconds


def main(words: Sequence[str]) -> int:
    """Print a table of all sizes, and one of the last size by kind of operation."""
    if "--help" in words:
        print(USAGE, end="")
        return 0
    values = {"runs": "10000", "workers": "1000"} | dict(word.partition("=")[::2] for word in words)
    if values.keys() != {"runs", "workers"}:
        print(USAGE, end="")
        return 2
    sizes = itertools.product(*([int(size) for size in values[key].split(",")] for key in ("runs", "workers")))
    found: dict[str, Counts] = {}
    for num_runs, num_workers in sizes:
        is_first = not found
        found, seconds = measure(num_runs, num_workers)
        if is_first:
            _print_row("runs", "workers", *found, "status, seconds", is_header=True)
        totals = (_rounded(sum(counts.values())) for counts in found.values())
        _print_row(f"{num_runs:,}", f"{num_workers:,}", *totals, f"{seconds:.2f}")
    kinds = sorted({kind for counts in found.values() for kind in counts})
    print()
    _print_row("of the last row", *kinds, is_header=True)
    for occasion, counts in found.items():
        _print_row(occasion, *(_rounded(counts.get(kind, 0)) for kind in kinds))
    return 0


def _rounded(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:.2f}"


def _print_row(*cells: str, is_header: bool = False) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)
    if is_header:
        print("| --- " + "| ---: " * (len(cells) - 1) + "|")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
