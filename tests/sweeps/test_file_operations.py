"""Bounds on the file operations of workers, displays, and status beside many runs."""

import contextlib
import io
import json
import random
import subprocess
import sys
import time

import pytest
from rich.console import Console
from torch.optim.optimizer import register_optimizer_step_post_hook

from aimv2.ablations.request import write_request
from aimv2.base.interrupt import Interrupts
from aimv2.sweeps.active_launches import WORKERS, new_launch
from aimv2.sweeps.manage import manage
from aimv2.sweeps.parse import parse
from aimv2.sweeps.plan import Task, Work
from aimv2.sweeps.worker import Worker
from tests.helpers.ledger import counted, write_runs
from tests.helpers.sweeps import board_of

SMALL = (  # a model that trains at once
    "sweep=prefix_ratio", "sweep.controls=[]", "data.sources=[fontawesome_scenes]", "model.encoder.width=32",
    "model.encoder.depth=1", "model.encoder.num_heads=1", "model.decoder.width=32", "model.decoder.depth=1",
    "model.decoder.num_heads=1", "evaluation.num_items=48", "evaluation.num_pairs=32", "evaluation.num_probe_scenes=40",
    "evaluation.curve_pairs=16", "evaluation.curve_points=2", "evaluation.probe.learning_rates=[1e-3]",
    "budget.samples=64000", "dry_run=true",
)  # fmt: skip
STEP_SECONDS = 0.5  # of the worker that is measured, which writes rows every 10 steps
STEADY_SECONDS = 25.0  # in which no checkpoint is due; one takes about 40 operations
BEATING = """import itertools, os, sys, time
for number in itertools.count(1):
    for path in sys.argv[1:]:
        os.truncate(path, number)
    time.sleep(1)"""


@pytest.mark.exhaustive
@pytest.mark.parametrize(("num_runs", "num_workers"), [(50, 10), (10_000, 1000)])
def test_workers_displays_and_commands_take_few_operations(cache_dir, tmp_path, num_runs, num_workers):
    runs_dir = tmp_path / "runs"
    parsed = parse([*SMALL, f"data.cache_dir={cache_dir}", f"sweep.seeds={num_runs // 5}", f"runs_dir={runs_dir}"])
    plan, names = parsed.plan, {}
    number = {"failed": num_runs // 50, "interrupted": num_runs // 50, "new": num_runs // 10, "running": num_workers}
    states = [state for state, count in number.items() for _ in range(count)]
    states += ["done"] * (len(plan.runs) - len(states))
    random.Random(0).shuffle(states)
    for cell, state in zip(parsed.request.cells, states, strict=True):
        names.setdefault(state, []).append(cell.name)
    write_runs(plan, {state: names[state] for state in names if state != "new"})
    write_request(runs_dir, parsed.request)
    plan.prepare_data()
    launch = new_launch(runs_dir, plan.title, plan.runs)
    taken = {*names["done"], *names["running"]}
    taken = [name for name in plan.runs if name in taken]
    with held_elsewhere(launch, [runs_dir / name for name in names["running"]]):
        status = operations(runs_dir, "status")
        now, updates = [0.0], []
        board = board_of(plan, Console(file=io.StringIO()), clock=lambda: now[0])
        for now[0] in (1e6, 2e6):  # seconds, so that each update reads
            with counted(runs_dir) as counts:
                board.update()
            updates.append(counts.total())
        without, _ = operations_of_worker(plan, launch, taken)
        found, a_second = operations_of_worker(plan, launch, [*taken, names["new"][0]])
    assert 0 < a_second < 1
    assert 0 < max(without, found) < 500
    assert 0 < min(updates) <= max(updates) < 500
    assert 0 < status < 3000


@contextlib.contextmanager
def held_elsewhere(launch, runs):
    """Let processes that appear to be on another host hold the launch and these runs, with heartbeats."""
    folders = [launch, *(launch / WORKERS / run.name[-12:] for run in runs)]
    folders += [run / "attempts" / "0001" for run in runs]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("heartbeat", "holder.json"):
            (folder / name).unlink(missing_ok=True)  # a link to the first run's
        (folder / "heartbeat").touch()
        (folder / "holder.json").write_text(json.dumps({"host": "another-host", "pid": 1, "process_start": "1"}))
    beating = subprocess.Popen([sys.executable, "-c", BEATING, *(str(folder / "heartbeat") for folder in folders)])
    try:
        yield
    finally:
        beating.kill()
        beating.wait()


def operations(runs_dir, *words):
    """Return the operations of a command of ``manage.py``."""
    with counted(runs_dir) as counts:
        assert manage([*words, f"runs_dir={runs_dir}"]) == 0
    return counts.total()


def operations_of_worker(plan, launch, names):
    """Return the operations of a worker until its first step, or its end if it finds no run; and those of a second of
    its training."""
    seen, interrupts = [], Interrupts()  # times and counts at each group of rows

    def on_rows(rows):
        if rows[-1]["step"] and not interrupts.is_requested:
            seen.append((time.monotonic(), counts.total()))
            if seen[-1][0] > seen[0][0] + STEADY_SECONDS:
                interrupts.also_when(lambda: True)

    tasks = [Task(name, plan.cell_of[name].config, after=0) for name in names]
    hook = register_optimizer_step_post_hook(lambda *_: time.sleep(STEP_SECONDS))
    try:
        with counted(plan.runs_dir) as counts:
            report = Worker(Work(tasks), launch, on_rows, runs_per_gpu=None, interrupts=interrupts).work()
    finally:
        hook.remove()
    assert not report.problem
    if not seen:
        return counts.total(), 0
    (started, first), (ended, last) = seen[0], seen[-1]
    return first, (last - first) / (ended - started)
