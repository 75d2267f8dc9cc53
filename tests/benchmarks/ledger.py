"""python tests/benchmarks/ledger.py [runs=10000] [workers=1000]: file operations of the ledger at scale.

Builds a runs folder with runs in every state and heartbeats of simulated workers in a temporary folder (TMPDIR), and
prints a row of the table in docs/cluster.md. Several sizes may be listed, as in runs=1000,10000.
"""

import contextlib
import io
import itertools
import json
import multiprocessing
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the code beside this file, whatever is installed

from rich.console import Console  # noqa: E402
from torch.optim.optimizer import register_optimizer_step_post_hook  # noqa: E402

from ablations.request import Request, write_request  # noqa: E402
from aimv2.runs.interrupt import Interrupts  # noqa: E402
from aimv2.runs.lease import HEARTBEAT_SECONDS, Presence  # noqa: E402
from sweeps.active_launches import WORKERS, new_launch  # noqa: E402
from sweeps.parse import parse  # noqa: E402
from sweeps.plan import Plan  # noqa: E402
from sweeps.status.board import Board  # noqa: E402
from sweeps.tasks import Task  # noqa: E402
from sweeps.worker import work  # noqa: E402
from tests.helpers.many_runs import write_runs  # noqa: E402
from tests.helpers.operations import counted  # noqa: E402
from tests.helpers.sweeps import small_sweep  # noqa: E402

USAGE = __doc__
STEP_SECONDS = 0.5  # of the worker that is measured, which writes rows every 10 steps
STEADY_SECONDS = 40.0
NUM_BOARD_UPDATES = 60
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
    return Ledger(plan, new_launch(plan.runs_dir, plan.title, dict.fromkeys(plan.runs, 0)), names)


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
    """Return the operations of a worker until its first row, those while it trains, and the seconds of these.

    Nothing is left of its run, so that the next worker meets the same folder.
    """
    tasks = [Task(name, ledger.plan.cell_of[name].config, after=0) for name in names]
    counts, interrupts, started = Counter[str](), Interrupts(), 0.0
    first = Counter[str]()

    def on_rows(rows: list[dict[str, Any]]) -> None:
        nonlocal started
        if rows[-1]["step"] and not started:  # after start-up
            started = time.monotonic()
            first.update(counts)
            interrupts.until(started + STEADY_SECONDS)
        elif started and not interrupts.is_out_of_time:
            steady.clear()
            steady.update(counts - first)
            elapsed[0] = time.monotonic() - started

    steady, elapsed = Counter[str](), [0.0]
    hook = register_optimizer_step_post_hook(lambda *_: time.sleep(STEP_SECONDS))
    try:
        with counted(ledger.plan.runs_dir, counts):
            report = work(tasks, ledger.launch_dir, on_rows, runs_per_gpu=None, interrupts=interrupts)
    finally:
        hook.remove()
    assert not report.problem, report.problem
    if not started:
        first.update(counts)
    return first, steady, elapsed[0]


def measure_board(ledger: Ledger) -> list[Counter[str]]:
    """Return the operations of each of a few updates of a launch's display."""
    now, found = 0.0, []
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Board(ledger.plan, console, is_live=True, clock=lambda: now) as board:
        for _ in range(NUM_BOARD_UPDATES):
            now += 1e6
            with counted(ledger.plan.runs_dir) as counts:
                board.update()
            found.append(counts)
    return found


def measure_status(ledger: Ledger) -> tuple[float, Counter[str]]:
    """Return the wall seconds of ``manage.py status``, and its operations."""
    from sweeps import manage

    started = time.perf_counter()
    words = ["status", f"runs_dir={ledger.plan.runs_dir}"]
    subprocess.run([sys.executable, ROOT / "sweeps" / "manage.py", *words], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    with counted(ledger.plan.runs_dir) as counts, contextlib.redirect_stdout(io.StringIO()):
        manage.manage(words)
    return seconds, counts


def main(words: Sequence[str]) -> int:
    """Print the table."""
    values = {"runs": "10000", "workers": "1000"} | dict(word.split("=", 1) for word in words)
    if values.keys() != {"runs", "workers"} or "--help" in words:
        print(USAGE)
        return 2
    print("| runs | workers | pass, a run is free | none is free | steady, a second | board update | status | |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    for num_runs in map(int, values["runs"].split(",")):
        for num_workers in map(int, values["workers"].split(",")):
            print(_row(num_runs, num_workers), flush=True)
    return 0


def _row(num_runs: int, num_workers: int) -> str:
    with tempfile.TemporaryDirectory() as temporary:
        cache = Path(tempfile.gettempdir()) / f"aimv2-benchmark-{os.getuid()}"  # of rendered pairs
        ledger = build(*requested(num_runs, cache, Path(temporary) / "runs"), num_workers)
        ledger.plan.prepare_data()
        started = time.perf_counter()
        with heartbeats(ledger):
            board, (status_seconds, status) = measure_board(ledger), measure_status(ledger)
            taken = {*ledger.names["done"], *ledger.names["running"]}
            names = [name for name in ledger.plan.runs if name in taken]
            none, _, _ = measure_worker(ledger, names)
            some, steady, seconds = measure_worker(ledger, [*names, ledger.names["new"][0]])
        rate = {kind: round(count / seconds, 3) for kind, count in steady.items()}
        total = [count.total() for count in (some, none)]
        worst = max(board[1:], key=Counter.total)
        print(
            json.dumps(
                {
                    "board": [dict(b) for b in board],
                    "status": dict(status),
                    "none": dict(none),
                    "some": dict(some),
                    "rate": rate,
                    "took": time.perf_counter() - started,
                }
            ),
            file=sys.stderr,
        )
        return (
            f"| {num_runs:,} | {num_workers:,} | {total[0]:,} | {total[1]:,} | {sum(rate.values()):.2f}"
            f" | {worst.total():,} | {status_seconds:.2f} s, {status.total():,} |"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
