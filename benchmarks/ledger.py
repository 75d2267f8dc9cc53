"""Count the file operations of workers, boards, status and prune in a runs folder with many runs and workers.

Builds the folder, with runs in every state and heartbeats of simulated workers, in a temporary one (TMPDIR). The second
table has the operations of the last size by kind. The third has the most operations in a launch of ``launch`` runs by
as many simulated workers, which all look for a run at the same moment.
"""

import contextlib
import io
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic.dataclasses
from pydantic import Field
from rich.console import Console
from torch.optim.optimizer import register_optimizer_step_post_hook

from aimv2.ablations.request import Request, write_request
from aimv2.base.interrupt import Interrupts
from aimv2.config.data_config import CHECKED
from aimv2.runs.lease import HEARTBEAT_SECONDS, Presence, Watch
from aimv2.runs.record import RunFolder
from aimv2.spec.metrics import Metric
from aimv2.sweeps.active_launches import ABOUT, WORKERS, new_launch, runs_dir_of
from aimv2.sweeps.executors.registry import queue_of
from aimv2.sweeps.parse import parse
from aimv2.sweeps.plan import Plan
from aimv2.sweeps.status.board import Board
from aimv2.sweeps.status.runs import RunReader, board_looks, status_looks
from aimv2.sweeps.status.status import plan_status
from aimv2.sweeps.tasks import Task, Work
from aimv2.sweeps.worker import Worker
from benchmarks.options import Kept
from benchmarks.results import Cell, Table
from tests.helpers.many_runs import write_runs
from tests.helpers.operations import counted
from tests.helpers.sweeps import small_sweep

ROOT = Path(__file__).parents[1]
Counts = Mapping[str, float]  # of operations by kind (tests/helpers/operations.py)
STEP_SECONDS = 0.5  # of the worker that is measured, which writes rows every 10 steps
NUM_BOARD_UPDATES = 60
NUM_STATUS = 3
SILENT = 1e6  # seconds between heartbeats: threads that beat would be counted
BOUNDS = {  # of operations, which the tests check
    "training, a second": 1,
    "a worker finds a run": 500,
    "a worker finds none": 500,
    "board, first update": 500,
    "board, a later update": 500,
    "status": 3000,
    "prune": 3000,
    "prune, no launch": 3000,
}
SHARES = {"failed": 0.02, "interrupted": 0.02, "new": 0.1}  # of all runs; those without a worker are done


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class LedgerOptions(Kept):
    """Sizes; each number of runs is measured with each number of workers."""

    runs: tuple[int, ...] = Field(default=(10_000,), description="numbers of runs")
    workers: tuple[int, ...] = Field(default=(1000,), description="numbers of workers")
    steady_seconds: float = Field(default=125.0, gt=0, description="seconds of training; a checkpoint comes every 60")
    launch: int = Field(default=1000, ge=10, description="runs, and simulated workers, of a whole launch")


def measure(options: LedgerOptions) -> Iterator[Table]:
    """Yield a row for each size, then one for each occasion of the last size, and then those of a launch."""
    cache = Path(tempfile.gettempdir()) / f"aimv2-benchmark-{os.getuid()}"  # of rendered pairs, for the next time
    rows: list[dict[str, Cell]] = []
    found: dict[str, Counts] = {}
    for num_runs, num_workers in itertools.product(options.runs, options.workers):
        with simulated(num_runs, num_workers, cache) as ledger:
            found = occasions(ledger, options.steady_seconds)
            rows.append(
                {"runs": num_runs, "workers": num_workers, **totals(found), "status, seconds": seconds_of(ledger)}
            )
    yield Table("file operations", [*rows, {"runs": "bound", "workers": "", **BOUNDS, "status, seconds": ""}])
    kinds = sorted({kind for counts in found.values() for kind in counts})
    by_kind: list[dict[str, Cell]] = [
        {"of the last row": occasion, **{kind: counts.get(kind, 0) for kind in kinds}}
        for occasion, counts in found.items()
    ]
    yield Table("the same by kind", by_kind)
    with tempfile.TemporaryDirectory() as temporary:
        _, plan = requested(options.launch, cache, Path(temporary) / "runs")
        most = totals(whole_launch(plan, options.launch))
    yield Table("a whole launch", [{"runs": len(plan.runs), "workers": options.launch, **most}])


def totals(found: Mapping[str, Counts]) -> dict[str, float]:
    """Return the number of operations by occasion."""
    return {occasion: sum(counts.values()) for occasion, counts in found.items()}


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
def heartbeats(ledger: Ledger, seconds: float = HEARTBEAT_SECONDS) -> Iterator[None]:
    """Let processes that appear to be on another host hold the launch and the running runs; a thread beats for them."""
    folders = [ledger.launch_dir]
    for name in ledger.names["running"]:
        worker = ledger.launch_dir / WORKERS / name[-12:]
        worker.mkdir(parents=True, exist_ok=True)
        folders += [worker, ledger.plan.runs_dir / name / "attempts" / "0001"]
    for folder in folders:
        for name in ("heartbeat", "holder.json"):
            (folder / name).unlink(missing_ok=True)  # a link to the first run's
        (folder / "heartbeat").touch()
        (folder / "holder.json").write_text(json.dumps({"host": "another-host", "pid": 1, "process_start": "1"}))
    has_ended = threading.Event()

    def beat(truncate: Callable[[Path, int], None] = os.truncate) -> None:  # the one that is not counted
        for number in itertools.count(1):
            for folder in folders:
                truncate(folder / "heartbeat", number)
            if has_ended.wait(seconds):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join()


def measure_worker(
    ledger: Ledger, names: Sequence[str], steady_seconds: float
) -> tuple[Counter[str], Counter[str], float]:
    """Return the operations of a worker until its first step, or its end if it finds no run; those of its training for
    about ``steady_seconds``; and the exact seconds of these."""
    tasks = [Task(name, ledger.plan.cell_of[name].config, after=0) for name in names]
    counts, interrupts = Counter[str](), Interrupts()
    seen: list[tuple[float, Counter[str]]] = []  # at each group of rows

    def on_rows(rows: list[dict[str, Any]]) -> None:
        if rows[-1]["step"] and not interrupts.is_requested:
            seen.append((time.monotonic(), counts.copy()))
            if seen[-1][0] > seen[0][0] + steady_seconds:
                interrupts.stop()

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
    board = Board(ledger.plan, console, queue_of, clock=lambda: now)
    with board.shown(is_live=True):
        for _ in range(NUM_BOARD_UPDATES):
            now += 1e6
            with counted(ledger.plan.runs_dir) as counts:
                board.update()
            found.append(counts)
    return found


def seconds_of(ledger: Ledger) -> float:
    """Return the shortest wall time of ``manage.py status`` in seconds, of a few calls."""
    command = [sys.executable, str(ROOT / "sweeps" / "manage.py"), "status", f"runs_dir={ledger.plan.runs_dir}"]
    seconds = list[float]()
    with heartbeats(ledger):
        for _ in range(NUM_STATUS):
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - started)
    return min(seconds)


def measure_command(runs_dir: Path, *words: str) -> Counter[str]:
    """Return the operations of a command of ``manage.py``."""
    from aimv2.sweeps import manage

    counts = Counter[str]()
    with counted(runs_dir, counts), contextlib.redirect_stdout(io.StringIO()):
        assert manage.manage([*words, f"runs_dir={runs_dir}"]) == 0
    return counts


@contextlib.contextmanager
def simulated(num_runs: int, num_workers: int, cache: Path) -> Iterator[Ledger]:
    """Yield a temporary folder with runs in every state, some of which are those of simulated workers."""
    with tempfile.TemporaryDirectory() as temporary:
        ledger = build(*requested(num_runs, cache, Path(temporary) / "runs"), num_workers)
        ledger.plan.prepare_data()
        yield ledger


def occasions(ledger: Ledger, steady_seconds: float, *, beat_seconds: float = HEARTBEAT_SECONDS) -> dict[str, Counts]:
    """Return the operations by their occasion (``BOUNDS``)."""
    runs_dir = ledger.plan.runs_dir
    with heartbeats(ledger, beat_seconds):
        first, *updates = measure_board(ledger)
        status = measure_command(runs_dir, "status")
        prune = measure_command(runs_dir, "prune", "dry_run=true")
        taken = {*ledger.names["done"], *ledger.names["running"]}
        names = [name for name in ledger.plan.runs if name in taken]
        none, _, _ = measure_worker(ledger, names, steady_seconds)
        some, steady, seconds = measure_worker(ledger, [*names, ledger.names["new"][0]], steady_seconds)
    record, kept = ledger.launch_dir / ABOUT, ledger.launch_dir / f".{ABOUT}"
    record.rename(kept)
    prune_alone = measure_command(runs_dir, "prune", "dry_run=true")
    kept.rename(record)
    return {
        "training, a second": {kind: count / seconds for kind, count in steady.items()},
        "a worker finds a run": some,
        "a worker finds none": none,
        "board, first update": first,
        "board, a later update": max(updates, key=lambda counts: sum(counts.values())),
        "status": status,
        "prune": prune,
        "prune, no launch": prune_alone,
    }


def whole_launch(plan: Plan, num_workers: int) -> dict[str, Counts]:
    """Let simulated workers do all runs of a plan, and return the most operations of each occasion.

    They are workers as on a cluster, but train nothing. All look for a run, then all try to acquire what they found,
    all publish, and so on until no run is left.
    """
    launch_dir, work = new_launch(plan.runs_dir, plan.title, plan.runs), plan.work(plan.runs)
    most = {name: Counter[str]() for name in ("a worker finds a run", "a worker finds none", "board", "status")}
    reader = RunReader()

    def note(occasion: str, counts: Counter[str]) -> None:
        most[occasion] = max(most[occasion], counts, key=lambda one: one.total())

    with Presence(launch_dir, beat_seconds=SILENT):
        workers = {number: _work(work.of_worker(number % len(plan.runs)), launch_dir) for number in range(num_workers)}
        while workers:
            passes = {number: Counter[str]() for number in workers}
            for has_found in (False, True):  # all look at the same moment, and then all try
                for number, counts in passes.items():
                    if number in workers:
                        with counted(plan.runs_dir, counts):
                            is_at_work = next(workers[number])
                        if has_found or not is_at_work:
                            note(f"a worker finds {'a run' if is_at_work else 'none'}", counts)
                        if not is_at_work:
                            del workers[number]
            with counted(plan.runs_dir) as counts:
                plan_status(plan, reader, board_looks(), queue_of=queue_of)
            note("board", counts)
            with counted(plan.runs_dir) as counts:
                plan_status(plan, None, status_looks(), queue_of=queue_of)
            note("status", counts)
    return {**most}


def _work(work: Work, launch_dir: Path) -> Iterator[bool]:
    """Do one task after the other; yield True once it has looked for a run, and once it has acquired one, and False at
    the end."""
    runs_dir = runs_dir_of(launch_dir)
    task_list = work.task_list(runs_dir, Watch(doubts_processes=True))
    while found := list(task_list.take()):
        yield True
        tries = (RunFolder(runs_dir, one.name).acquire(one.config, beat_seconds=SILENT) for one in found)
        if (attempt := next((one for one in tries if one is not None), None)) is None:
            yield False
            return
        with attempt:
            attempt.write_rows([{"step": 0, "samples": 0, "seconds": 0.1}])
            yield True
            attempt.publish({"caption_loss": Metric(1.0, "nats/token", "none")}, train_flops=1, train_seconds=0.1)
            attempt.remove_unfinished()
    yield False
