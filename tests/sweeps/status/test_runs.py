"""Reading the progress of runs: how many file operations it takes, and notes on runs that hang."""

import io
import os
import shutil
import time
from collections import Counter
from dataclasses import replace

import pytest
from rich.console import Console

from aimv2.ablations.expand import expand
from aimv2.ablations.studies.prefix_ratio import STUDY
from aimv2.config.training_config import LogConfig
from aimv2.runs import index
from aimv2.runs.index import Entry
from aimv2.runs.record import RunFolder
from aimv2.sweeps.plan import Plan
from aimv2.sweeps.status.runs import STALLED_SECONDS, Looks, RunReader, board_looks
from tests.helpers.ledger import counted, write_runs
from tests.helpers.sweeps import board_of

MINUTE = 60.0


@pytest.fixture
def plan_of(tiny, tmp_path):
    """Make a plan of runs of 80 samples in two arms, in a folder of its own."""

    def make(num_seeds, **more):
        base = replace(tiny, budget=replace(tiny.budget, samples=80), **more)
        cells = expand(replace(STUDY, controls=()), base, ["uniform", "causal"], range(num_seeds))
        cells = [cell for cell in cells if cell.arm != "untrained"]
        return Plan("prefix_ratio", cells, tmp_path / f"runs-{num_seeds}")

    return make


def read(reader, plan, looks=None):
    looks = looks or Looks()
    return {run.run: replace(run) for run in reader.read(plan, reader.entries(plan, looks), looks)}


def updates(plan, number):
    """Return the operations of each update of a launch's display."""
    now, found = 0.0, []
    board = board_of(plan, Console(file=io.StringIO(), force_terminal=True), clock=lambda: now)
    with board.shown(is_live=True):
        for _ in range(number):
            now += 1e6
            with counted(plan.runs_dir) as counts:
                board.update()
            found.append(counts)
    return found


def written(plan, num_running, num_failed):
    """Write runs in every state, the rest done, and return the names by state."""
    names = iter(plan.runs)
    number = {"running": num_running, "failed": num_failed, "interrupted": num_failed}
    by_state = {state: [next(names) for _ in range(count)] for state, count in number.items()} | {"done": list(names)}
    write_runs(plan, by_state, num_rows=40)
    return by_state


def test_operations_of_a_display_do_not_grow_with_the_runs_that_are_done(plan_of):
    found = []
    for num_seeds in (60, 130):  # 120 and 260 runs, 15 of which are not done
        plan = plan_of(num_seeds)
        written(plan, 11, 2)
        found.append([count - Counter(list=count["list"]) for count in updates(plan, 4)])
    assert found[0] == found[1]


def test_operations_of_a_display_do_not_grow_with_the_runs_that_are_running(plan_of):
    found = []
    for num_seeds in (60, 120):
        plan = plan_of(num_seeds)
        written(plan, num_seeds, 2)
        found.append(max(map(Counter.total, updates(plan, 6))))
    assert found[0] == found[1] < 500


def test_running_runs_take_turns(plan_of):
    plan = plan_of(60)
    running = written(plan, 60, 2)["running"]
    reader = RunReader()
    before = read(reader, plan)
    for name in running:
        rows = plan.runs_dir / name / "attempts" / "0001" / "metrics.jsonl"
        text = rows.read_text()
        rows.unlink()  # a link that the runs share
        rows.write_text(text + '{"step": 40, "samples": 79}\n')

    def seen():
        found = read(reader, plan, board_looks())
        return {name for name, run in found.items() if before[name].samples < run.samples}

    first, second = seen(), seen()
    assert len(first) == 30
    assert second == set(running)


def test_a_run_that_failed_since_the_last_reading_is_read_before_running_ones(plan_of):
    plan = plan_of(60)
    names = written(plan, 60, 1)
    reader, last = RunReader(), names["running"][-1]
    assert read(reader, plan)[last].state == "running"
    shutil.copy(*(plan.runs_dir / name / "attempts/0001/failure.json" for name in (names["failed"][0], last)))
    index.write(plan.runs_dir, last, Entry("failed", 1, "bug"))
    found = read(reader, plan, board_looks())
    assert (found[last].state, found[last].note) == ("failed", "ValueError: a test")


def test_runs_that_are_not_read_have_the_mean_progress_of_those_that_are(plan_of):
    plan = plan_of(60)
    names = written(plan, 80, 10)
    with counted(plan.runs_dir) as counts:
        found = read(RunReader(), plan, Looks(runs=20, heartbeats=1000))
    unread = [name for name in names["running"] if not found[name].read_at]
    assert len(unread) > 60
    assert {(found[name].state, found[name].samples, found[name].images_per_second) for name in unread} == {
        ("running", 78, 100.0)  # as the others, at step 39 of 40
    }
    assert {found[name].state for name in names["failed"]} == {"failed"}
    assert any(found[name].note == "ValueError: a test" for name in names["failed"]), "one of each cause is read"
    assert any(found[name].cause == "time" for name in names["interrupted"]), "likewise"
    assert counts.total() < 20 * 10 + 80 + 60


def test_a_run_without_a_heartbeat_is_not_running_though_it_was_not_read(plan_of):
    plan = plan_of(20)
    names = written(plan, 30, 1)["running"]
    silent = time.time() - 1000
    heartbeat = plan.runs_dir / names[0] / "attempts" / "0001" / "heartbeat"
    os.utime(heartbeat, (silent, silent))  # one file, which all runs share
    found = read(RunReader(), plan, Looks(runs=0, heartbeats=10))
    assert Counter(found[name].state for name in names) == {"failed": 10, "running": 20}


def test_deleted_results_are_noticed_in_turn(plan_of):
    plan = plan_of(20)
    done, reader = written(plan, 2, 1)["done"], RunReader()
    for name in done:
        (plan.runs_dir / name / "result.json").unlink()
    numbers = [Counter(run.state for run in read(reader, plan, Looks(results=10)).values())["done"] for _ in range(4)]
    assert numbers == [len(done) - 10, len(done) - 20, len(done) - 30, 0]


@pytest.fixture
def training(plan_of):
    """Return a function that writes a training run whose last row came ``silent`` seconds ago, and returns its note."""

    def note(silent, *, seconds=0.2, held_out=0.0, samples=40, **more):
        plan = plan_of(1, **more)
        cell = plan.cells[0]
        speed = cell.config.budget.batch_size / seconds
        later = [
            {"step": n, "samples": 8 * n, "seconds": 1 + held_out + n * seconds, "images_per_second": speed}
            for n in range(1, samples // 8 + 1)
        ]
        with RunFolder(plan.runs_dir, cell.name).acquire(cell.config) as attempt:
            attempt.write_rows([{"step": 0, "samples": 0, "seconds": 1}, *later])
            attempt.sync_rows()
            written = time.time() - silent
            os.utime(attempt.folder / "metrics.jsonl", (written, written))
            return read(RunReader(), plan)[cell.name].note

    return note


def test_a_run_whose_rows_stopped_coming_is_noted_though_its_heart_beats(training):
    assert training(12 * MINUTE) == "no new step for 12.0 min; a step took 0.2 s"


def test_a_run_is_not_noted_while_steps_or_held_out_points_or_its_evaluation_take_long(training):
    assert training(STALLED_SECONDS / 2) == ""
    assert training(12 * MINUTE, log=LogConfig(every_steps=1000)) == ""
    assert training(12 * MINUTE, seconds=5 * MINUTE) == ""
    assert training(12 * MINUTE, held_out=8 * MINUTE) == ""
    assert training(12 * MINUTE, samples=80) == "evaluating"
