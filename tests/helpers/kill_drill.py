"""The kill drill: a sweep whose workers are killed at random moments has the rows and metrics of an undisturbed one."""

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from aimv2.run.execute import execute
from aimv2.runs.lease import holder, is_released, latest_attempt
from aimv2.runs.record import MAX_STALLED, RunFolder
from aimv2.runs.rows import OF_MACHINE, last_row
from aimv2.sweeps.active_launches import active_launches
from aimv2.sweeps.parse import parse
from tests.helpers.sweeps import small_sweep

NUM_DEATHS = MAX_STALLED + 1  # of the run that trains: more than one without progress may have
MAX_STEPS = 10  # between a checkpoint and a death
# A run that trains, and its untrained encoder.
ARGUMENTS = ("sweep.arms=[uniform]", "sweep.seeds=1", "budget.samples=3200", "checkpoint.every_seconds=0.01")
POLL_SECONDS = 0.02


def drill(folder: Path, cache_dir: str, is_over: Callable[[], bool]) -> None:
    """Kill the workers of a small sweep of ARGUMENTS that was launched in a folder until it is over; then compare.

    The run that trains loses some workers, a random number of steps after a checkpoint. Its untrained encoder may lose
    one at any time in its evaluation, and the launch loses one that may not have a run yet.

    ``is_over`` is True once no worker is left and none will be started.
    """
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    deaths = Counter[str]()
    for run in _killed(folder / "runs", seed, is_over):
        deaths[run] += 1
    cells = parse(small_sweep(cache_dir, *ARGUMENTS)).request.cells
    for cell in cells:
        run, whole = RunFolder(folder / "runs", cell.name), RunFolder(folder / "undisturbed", cell.name)
        assert run.is_done, f"seed {seed}: {cell.name} is not done"
        assert len(list(run.path.glob("attempts/*/result.json"))) == 1, f"seed {seed}: {cell.name}"
        if cell.config.budget.samples:
            assert deaths[cell.name] == NUM_DEATHS, f"seed {seed}: it was done before all of its workers were killed"
        assert run.num_attempts > deaths[cell.name], f"seed {seed}"
        attempt = whole.acquire(cell.config)
        assert attempt is not None, "the folder is new"
        assert execute(attempt, cell.config) is None
        assert _recorded(run) == _recorded(whole), f"seed {seed}: {cell.name} differs"
    assert deaths[""] == 1
    assert len(list((folder / "runs").glob("v*-*"))) == len(cells)
    assert active_launches(folder / "runs") == []


def _killed(runs_dir: Path, seed: int, is_over: Callable[[], bool]) -> Iterator[str]:
    """Kill workers until the launch is over; yield the name of each one's run, empty if it was killed at its start."""
    moments: dict[Path, int] = {}  # the step at which the worker of an attempt dies
    dead = set[Path]()
    while not is_over():
        started = [*runs_dir.glob("launches/*/workers/*/holder.json")] if not dead else []
        for folder in [path.parent for path in started[:1]]:
            if _kill(folder):
                dead.add(folder)
                yield ""
        for run in runs_dir.glob("v*-*"):
            attempt = latest_attempt(run)
            if attempt is None or attempt in dead or is_released(attempt):
                continue
            trains, number = (runs_dir / run.name / "config.json").exists() and _trains(run), int(attempt.name)
            if number > (NUM_DEATHS if trains else 1):
                continue
            step = last_row(attempt).get("step", 0)
            if trains and attempt not in moments and any(attempt.glob("checkpoint/*")):
                moments[attempt] = step + random.Random(f"{seed} {run.name} {number}").randrange(MAX_STEPS)
            if (not trains or step >= moments.get(attempt, float("inf"))) and _kill(attempt):
                dead.add(attempt)
                yield run.name
        time.sleep(POLL_SECONDS)


def _trains(run: Path) -> bool:
    return bool(json.loads((run / "config.json").read_text())["budget"]["samples"])


def _kill(folder: Path) -> bool:
    """Kill the process that holds a folder, without warning. Return False if it has ended."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        os.kill(holder(folder)["pid"], signal.SIGKILL)
        return True
    return False


def _recorded(run: RunFolder) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Return the rows and the final metrics of a run, without what depends on the machine."""
    rows = [{key: value for key, value in row.items() if key not in OF_MACHINE} for row in run.rows()]
    return rows, run.result()["metrics"]
