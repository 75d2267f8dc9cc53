"""The progress display, of sweeps in known states, and the logs of a run."""

import contextlib
import io
from dataclasses import replace

import pytest
from rich.console import Console

from aimv2.ablations.expand import expand
from aimv2.ablations.studies.prefix_ratio import PREFIX_RATIO
from aimv2.base.errors import UsageError
from aimv2.runs.failure import Failure
from aimv2.runs.record import RunFolder
from aimv2.sweeps.active_launches import at_work
from aimv2.sweeps.board import (
    LINE_SECONDS,
    MAX_SHOWN_RUNNING,
    headline,
    print_failures,
    print_logs,
    reasons,
    rendered,
    time_left,
)
from aimv2.sweeps.plan import Plan
from aimv2.sweeps.progress import RunStatus, SweepStatus
from aimv2.sweeps.search.trials import SearchFolder
from tests.helpers.sweeps import board_of
from tests.helpers.trials import begin, do, search


def run(state, seed=0, **more):
    return RunStatus(run=f"v2-{seed:012d}", arm="causal", seed=seed, state=state, budget=100, **{"samples": 0} | more)


def sweep(*runs, **more):
    waits = {"waits": "no worker"}
    return SweepStatus(**{"name": "prefix_ratio", "num_launches": 1, "queue": [], "runs": list(runs)} | waits | more)


def text(*sweeps):
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(rendered(list(sweeps)))
    return " ".join(console.export_text().split())


def test_headline_counts_runs_samples_launches_and_time_left():
    runs = (run("done", samples=100), run("running", 1, samples=40, images_per_second=2.0), run("waiting", 2))
    start = "3 runs, 1 done, 1 running, 1 waiting; 140 of 300 samples; 1 active launch"
    assert headline(sweep(*runs)) == f"{start}; about 80 s of training left; no evaluation was timed yet"


def test_time_left_has_the_evaluations():
    known = {"evaluation_seconds": 30.0}
    training = run("running", 1, samples=40, images_per_second=2.0, read_at=1.0, seconds_left=60.0, **known)
    assert time_left(sweep(run("done", samples=100), training)) == "about 60 s left, with evaluations"
    waiting = [run("waiting", seed, **known) for seed in (2, 3)]
    assert time_left(
        sweep(training, *waiting)
    ) == f"about {(60 + 200) / 2 + 3 * 30:.0f} s left, with evaluations".replace("220 s", "3.7 min")
    evaluating = run("running", 1, samples=100, images_per_second=2.0, read_at=1.0, seconds_left=12.0, **known)
    assert time_left(sweep(evaluating)) == "about 12 s left, with evaluations"
    failed = run("failed", 4, **known)
    assert time_left(sweep(evaluating, failed)) == "about 12 s left, with evaluations", "it will not be repeated"


def test_progress_of_runs_that_were_not_read_is_called_an_estimate():
    runs = (run("running", 1, samples=40, attempt=1, read_at=1.0), run("running", 2, samples=40, attempt=1))
    assert "; about 80 of 200 samples (1 of 2 unfinished runs were read)" in headline(sweep(*runs))


def test_running_run_shows_progress_losses_and_notes():
    active = run(
        "running", samples=40, images_per_second=20.0, seconds_left=3.0, losses="text 3.100  pixel 0.900",
        host="node7", note="no heartbeat for 60 s",
    )  # fmt: skip
    shown = text(sweep(active))
    assert "causal, 0 v2-000000000000 40% 20 over 3 s text 3.100 pixel 0.900" in shown, "no evaluation was timed yet"
    assert "40% 20 3 s text" in text(sweep(replace(active, evaluation_seconds=1.0)))
    assert "causal, 0 on node7: no heartbeat for 60 s" in shown


def test_failures_are_grouped_by_cause_with_advice():
    memory = {"cause": "out of memory", "note": "CUDA out of memory [tried 2 GB]"}
    shown = text(sweep(run("failed", **memory), run("failed", 1, **memory), run("failed", 2, cause="bug", note="oh")))
    first = "causal, seed 0 (v2-000000000000) and 1 more failed, out of memory: CUDA out of memory [tried 2 GB]"
    assert f"{first} retry with a smaller executor.runs_per_gpu" in shown
    assert "causal, seed 2 (v2-000000000002) failed, bug: oh read the traceback" in shown


def test_a_run_that_will_be_repeated_gets_no_advice():
    shown = text(sweep(run("waiting", cause="node", note="the host died")))
    assert shown.endswith("not done: the host died; no worker")


def test_many_running_runs_are_cut_and_those_that_look_wrong_shown_first():
    num_more = 3
    runs = [run("running", seed) for seed in range(MAX_SHOWN_RUNNING + num_more - 1)]
    shown = text(sweep(*runs, run("running", 25, host="node7", note="no new step")))
    assert f"and {num_more} more" in shown
    assert "causal, 25 on node7: no new step" in shown


def test_an_evaluation_is_shown_in_the_place_of_the_losses_and_is_no_suspicion():
    evaluating = run("running", samples=100, note="evaluating", host="node7", read_at=1.0, losses="text 3.1")
    suspicious = run("running", 1, samples=40, note="no new step", host="node8", read_at=1.0)
    shown = text(sweep(evaluating, suspicious))
    assert "causal, 1 v2-000000000001 40% causal, 0 v2-000000000000 100% evaluating causal, 1 on node8" in shown
    assert "node7" not in shown


def test_a_slow_reading_is_repeated_rarely(plan):
    ticks = iter([0, 0, 3, 59, 60, 61, 61])  # at the start; a reading of 3 s; too early; the next one

    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    board = board_of(plan, console, clock=lambda: next(ticks))
    with board.shown(is_live=True):
        drawn = []
        for _ in range(3):
            board.update()
            drawn.append(console.file.getvalue().count("prefix_ratio"))
    assert drawn[0] == drawn[1] < drawn[2]


@pytest.fixture
def plan(tiny, tmp_path):
    cells = expand(replace(PREFIX_RATIO, controls=()), tiny, arms=["uniform"], seeds=[0, 1])
    return Plan("prefix_ratio", cells, tmp_path)


def claim(plan, number):
    cell = plan.cells[number]
    return RunFolder(plan.runs_dir, cell.name).acquire(cell.config)


class Time:
    now = 0.0

    def __call__(self):
        return self.now


def test_board_without_a_terminal_prints_a_line_now_and_then_and_new_failures(plan):
    time, console = Time(), Console(record=True, width=200, file=io.StringIO())
    board = board_of(plan, console, clock=time)
    with board.shown(is_live=True):
        with claim(plan, 1) as attempt:
            attempt.fail(Failure("node", "the disk was full"), "")
        for time.now in range(2 * int(LINE_SECONDS) + 1):
            board.update()
    first, why, advice, second = console.export_text().splitlines()
    assert first == second
    assert first.startswith("prefix_ratio: 4 runs, 1 failed, 3 waiting;")
    assert why == f"uniform, seed 1 ({plan.cells[1].name}) failed, node: the disk was full"
    assert advice.startswith("  check the disk and the host")


def test_a_line_on_a_sweep_says_why_runs_wait_only_if_some_do(plan):
    def lines():
        time, console = Time(), Console(record=True, width=200, file=io.StringIO())
        with at_work(plan.runs_dir, plan.title, plan.cell_of):
            board = board_of(plan, console, clock=time)
            time.now = LINE_SECONDS
            board.update()
        return console.export_text().splitlines()

    assert [line.split(":")[0].strip() for line in lines()] == ["prefix_ratio", "not done"]
    for number in range(len(plan.cells)):
        with claim(plan, number) as attempt:
            attempt.publish({}, train_flops=0)
    assert [line.split(":")[0].strip() for line in lines()] == ["prefix_ratio"]


def test_failures_of_the_launch_are_named(plan):
    console = Console(record=True, width=200, file=io.StringIO())
    names = [cell.name for cell in plan.cells[:2]]
    with claim(plan, 0) as attempt:
        attempt.publish({}, train_flops=0)
    assert print_failures(console, plan, names)
    assert console.export_text().strip() == f"uniform, seed 1 ({names[1]}) not done: no worker finished it"
    assert not print_failures(console, plan, names[:1])
    (folder := plan.runs_dir / names[1]).write_text("in the way")
    assert print_failures(console, plan, names)
    assert f"not done: {folder} is no folder that can be written; remove it" in console.export_text()


def test_a_progress_that_cannot_be_read_ends_no_launch(plan):
    now, answers = [0.0], iter([UsageError("a broken record"), UsageError("a broken record"), OSError("another")])

    def read():
        raise next(answers)

    console = Console(record=True, width=200)
    board = board_of(plan, console, trials=read, clock=lambda: now[0])
    for _ in range(3):
        board.update()
        now[0] += 60
    lines = console.export_text().splitlines()
    assert lines == ["progress is not shown: a broken record", "progress is not shown: another"]


def test_runs_that_wait_for_different_reasons_are_not_told_as_one():
    runs = [
        RunStatus(run=f"v2-{seed}", arm="a", seed=seed, state="waiting", budget=8, note=note)
        for seed, note in enumerate(["its result was deleted", "", ""])
    ]
    console = Console(record=True, width=200)
    console.print(reasons(runs, "launch it again"))
    assert console.export_text().splitlines() == [
        "a, seed 0 (v2-0) not done: its result was deleted; launch it again",
        "a, seed 1 (v2-1) and 1 more not done: launch it again",
    ]


def printed(runs_dir, task):
    console = Console(record=True, width=200)
    print_logs(RunFolder(runs_dir, task.name), console)
    return console.export_text()


def interrupted(runs_dir, task, samples):
    """Let an attempt end after so many samples, as after a signal."""
    with contextlib.suppress(KeyboardInterrupt), begin(runs_dir, task) as attempt:
        attempt.write_rows([{"step": 1, "samples": samples, "train_flops": 1, "seconds": 1.0}])
        attempt.mark_progress()  # it saves a checkpoint
        raise KeyboardInterrupt


def endings(text):
    return [line.partition(", process ")[2].partition(", ")[2] for line in text.splitlines() if "attempt 0" in line]


def test_each_attempt_says_how_it_ended(tiny, tmp_path):
    task = SearchFolder(search(tiny), tmp_path).ask()
    interrupted(tmp_path, task, samples=4)
    assert f"{task.name}: not done" in printed(tmp_path, task)
    do(tmp_path, task, content_loss=1.0)
    text = printed(tmp_path, task)
    assert endings(text) == ["interrupted", "finished"]
    assert f"{task.name}: done" in text


def test_the_last_rows_are_a_table_with_a_line_for_each_value(tiny, tmp_path):
    task = SearchFolder(search(tiny), tmp_path).ask()
    with begin(tmp_path, task) as attempt:
        rows = [{"step": n, "samples": 1000 * n, "text_loss": 3.14159 / (n + 1)} for n in range(7)]
        attempt.write_rows([*rows, {"step": 7, "samples": 7000, "text_loss": 1e-7, "held_out_caption_loss": 2.5}])
    shown = [line.split() for line in printed(tmp_path, task).splitlines()]
    assert ["step", "3", "4", "5", "6", "7"] in shown
    assert ["samples", "3,000", "4,000", "5,000", "6,000", "7,000"] in shown
    assert ["text_loss", "0.7854", "0.6283", "0.5236", "0.4488", "1e-07"] in shown
    assert ["held_out_caption_loss", "2.5"] in shown
