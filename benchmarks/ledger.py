"""Count the file operations of workers, boards, status and prune in a runs folder with many runs and workers.

Builds the folder, with runs in every state and heartbeats of simulated workers, in a temporary one (TMPDIR). An
operation is a call that a file server may have to answer: open, stat, list, make (a folder or a link), rename, remove,
touch (time, size or permissions) and sync. Calls of libraries that do not use Python's files are not seen.
"""

import contextlib
import io
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pydantic.dataclasses
from pydantic import Field
from rich.console import Console
from torch.optim.optimizer import register_optimizer_step_post_hook

from aimv2.ablations.request import write_request
from aimv2.base.interrupt import Interrupts
from aimv2.config.data_config import CHECKED
from aimv2.runs import index
from aimv2.runs.failure import Failure
from aimv2.runs.index import Entry
from aimv2.runs.lease import HEARTBEAT_SECONDS
from aimv2.runs.record import RunFolder
from aimv2.spec.metrics import Metric
from aimv2.sweeps.active_launches import WORKERS, new_launch
from aimv2.sweeps.board import Board
from aimv2.sweeps.executors.registry import queue_of
from aimv2.sweeps.manage import manage
from aimv2.sweeps.parse import parse
from aimv2.sweeps.plan import Plan, Task, Work
from aimv2.sweeps.worker import Worker
from benchmarks.results import Cell, Table

AUDITED = {  # kinds of operations by Python's audit events, whose first argument is a path or a descriptor
    "open": "open", "os.listdir": "list", "os.scandir": "list", "os.mkdir": "make", "os.link": "make",
    "os.symlink": "make", "os.rename": "rename", "os.remove": "remove", "os.rmdir": "remove", "os.utime": "touch",
    "os.truncate": "touch", "os.chmod": "touch",
}  # fmt: skip
UNAUDITED = {"stat": "stat", "lstat": "stat", "access": "stat", "fsync": "sync"}  # functions of os without an event
SMALL = (  # a model that trains at once
    "sweep=prefix_ratio", "sweep.controls=[]", "data.sources=[fontawesome_scenes]", "model.encoder.width=32",
    "model.encoder.depth=1", "model.encoder.num_heads=1", "model.decoder.width=32", "model.decoder.depth=1",
    "model.decoder.num_heads=1", "evaluation.num_items=48", "evaluation.num_pairs=32", "evaluation.num_probe_scenes=40",
    "evaluation.curve_pairs=16", "evaluation.curve_points=2", "evaluation.probe.learning_rates=[1e-3]",
    "budget.samples=64000", "dry_run=true",
)  # fmt: skip
STEP_SECONDS = 0.5  # of the worker that is measured, which writes rows every 10 steps
NUM_BOARD_UPDATES = 60
BOUNDS = {  # of operations, which the tests check
    "training, a second": 1,
    "a worker finds a run": 500,
    "a worker finds none": 500,
    "board, first update": 500,
    "board, a later update": 500,
    "status": 3000,
    "prune": 3000,
}
SHARES = {"failed": 0.02, "interrupted": 0.02, "new": 0.1}  # of all runs; those without a worker are done

_active: list[tuple[str, Counter[str]]] = []  # folders whose operations are counted now
_uncounted: set[int] = set()  # threads


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class LedgerOptions:
    """Sizes."""

    runs: int = Field(default=10_000, ge=10, description="runs in the folder")
    workers: int = Field(default=1000, gt=0, description="simulated workers")
    steady_seconds: float = Field(default=125.0, gt=0, description="seconds of training; a checkpoint comes every 60")


def measure(options: LedgerOptions) -> Iterator[Table]:
    """Yield a table with a row for each occasion."""
    cache = Path(tempfile.gettempdir()) / f"aimv2-benchmark-{os.getuid()}"  # of rendered pairs, for the next time
    with simulated(options.runs, options.workers, cache) as ledger:
        counts_of = occasions(ledger, options.steady_seconds)
    kinds = sorted({kind for counts in counts_of.values() for kind in counts})
    rows = []
    for occasion, counts in counts_of.items():
        row: dict[str, Cell] = {"occasion": occasion, "operations": sum(counts.values()), "bound": BOUNDS[occasion]}
        rows.append(row | {kind: counts.get(kind, 0) for kind in kinds})
    yield Table(f"file operations, {options.runs:,} runs and {options.workers:,} workers", rows)


def _count(kind: str, path: Any, dir_fd: int = -1) -> None:
    """Count an operation on a path or the file of a descriptor, unless it is that of ``heartbeats``."""
    if not _active or threading.get_ident() in _uncounted:
        return
    with contextlib.suppress(OSError, TypeError):  # a descriptor that is no file's
        folder = "" if dir_fd < 0 else os.readlink(f"/proc/self/fd/{dir_fd}")
        name = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fsdecode(path)
        for root, counts in _active:
            if f"{os.path.abspath(os.path.join(folder, name))}/".startswith(f"{root}/"):
                counts[kind] += 1


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in AUDITED:
        _count(AUDITED[event], *arguments[: 2 if event in ("os.remove", "os.rmdir") else 1])


def _counting(name: str) -> Callable[..., Any]:
    call = getattr(os, name)

    def counting(path: Any, *arguments: Any, **more: Any) -> Any:
        if name == "fsync" or not isinstance(path, int):  # the attributes of an open file are known
            _count(UNAUDITED[name], path)
        return call(path, *arguments, **more)

    return counting


@contextlib.contextmanager
def counted(folder: Path, counts: Counter[str] | None = None) -> Iterator[Counter[str]]:
    """Count operations on this folder by kind, of all threads but those of ``heartbeats``, within the context."""
    active = (os.path.realpath(folder), Counter[str]() if counts is None else counts)
    with contextlib.ExitStack() as patches:
        for name in UNAUDITED:
            patches.enter_context(mock.patch.object(os, name, _counting(name)))
        _active.append(active)
        try:
            yield active[1]
        finally:
            _active.pop()


sys.addaudithook(_audit)  # it cannot be removed


@dataclass(frozen=True)
class Ledger:
    """A runs folder, with the runs of each state in the order of the sweep, and a launch."""

    plan: Plan
    launch_dir: Path
    names: dict[str, list[str]]


@contextlib.contextmanager
def simulated(num_runs: int, num_workers: int, cache: Path) -> Iterator[Ledger]:
    """Yield a temporary folder with about this many runs, of four arms and their untrained encoders, in every state."""
    with tempfile.TemporaryDirectory() as temporary:
        parsed = parse(
            [*SMALL, f"data.cache_dir={cache}", f"sweep.seeds={num_runs // 5}", f"runs_dir={temporary}/runs"]
        )
        plan = parsed.plan
        number = {state: int(share * len(plan.runs)) for state, share in SHARES.items()}
        number["running"] = min(num_workers, (len(plan.runs) - sum(number.values())) * 9 // 10)
        number["done"] = len(plan.runs) - sum(number.values())
        states = [state for state, count in number.items() for _ in range(count)]
        random.Random(0).shuffle(states)
        names: dict[str, list[str]] = {}
        for cell, state in zip(parsed.request.cells, states, strict=True):
            names.setdefault(state, []).append(cell.name)
        write_runs(plan, {state: names[state] for state in names if state != "new"})
        write_request(plan.runs_dir, parsed.request)
        plan.prepare_data()
        yield Ledger(plan, new_launch(plan.runs_dir, plan.title, plan.runs), names)


def write_runs(plan: Plan, names: Mapping[str, Sequence[str]], num_rows: int = 300) -> None:
    """Write runs of a plan by the state that they are to have: done, failed, interrupted or running.

    One of each state is written by the project's own classes, the others are its copies. This process holds the running
    ones, and nothing beats for them.
    """
    for state, (first, *others) in names.items():
        _write(plan, first, state, num_rows)
        entry = index.read(plan.runs_dir)[first]
        for name in others:
            shutil.copytree(plan.runs_dir / first, plan.runs_dir / name, copy_function=os.link)
            index.add(plan.runs_dir, name, entry)


def _write(plan: Plan, name: str, state: str, num_rows: int) -> None:
    config: Any = plan.cell_of[name].config
    attempt = RunFolder(plan.runs_dir, name).acquire(config)
    assert attempt is not None, "a new run is free"
    times = {"images_per_second": 100.0, "learning_rate": 1e-4, "gradient_norm": 1.0, "step_cpu_seconds": 0.5}
    samples = config.budget.samples / num_rows
    rows = [{"step": n, "samples": int(n * samples), "text_loss": 3.0, "seconds": n * 0.5} for n in range(num_rows)]
    with contextlib.suppress(KeyboardInterrupt), attempt:
        attempt.write_rows([row | times for row in rows])
        attempt.write_manifest({"hardware": "none", "code": "0" * 12})
        if state == "done":
            metrics = {"caption_loss": Metric(1.0, "nats/token", "none")}
            attempt.publish(metrics, train_flops=1, train_seconds=1.0, mixture={})
            attempt.remove_unfinished()
        elif state == "failed":
            attempt.fail(Failure("bug", "ValueError: a test"), "Traceback")
        elif state == "interrupted":
            raise KeyboardInterrupt
    if state == "running":
        (attempt.folder / "released").unlink()
        index.remove(plan.runs_dir, name, Entry("idle", 1))
        index.add(plan.runs_dir, name, Entry("running", 1))


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

    def beat() -> None:
        _uncounted.add(threading.get_ident())
        for number in itertools.count(1):
            for folder in folders:
                os.truncate(folder / "heartbeat", number)
            if has_ended.wait(seconds):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join()
        _uncounted.clear()


def occasions(
    ledger: Ledger, steady_seconds: float, *, beat_seconds: float = HEARTBEAT_SECONDS
) -> dict[str, Mapping[str, float]]:
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
    return {
        "training, a second": {kind: count / seconds for kind, count in steady.items()},
        "a worker finds a run": some,
        "a worker finds none": none,
        "board, first update": first,
        "board, a later update": max(updates, key=lambda counts: sum(counts.values())),
        "status": status,
        "prune": prune,
    }


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
    now, updates = 0.0, []
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    board = Board(ledger.plan, console, queue_of, clock=lambda: now)
    with board.shown(is_live=True):
        for _ in range(NUM_BOARD_UPDATES):
            now += 1e6
            with counted(ledger.plan.runs_dir) as counts:
                board.update()
            updates.append(counts)
    return updates


def measure_command(runs_dir: Path, *words: str) -> Counter[str]:
    """Return the operations of a command of ``manage.py``."""
    with counted(runs_dir) as counts, contextlib.redirect_stdout(io.StringIO()):
        assert manage([*words, f"runs_dir={runs_dir}"]) == 0
    return counts
