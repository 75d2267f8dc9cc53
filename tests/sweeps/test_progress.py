"""Progress of a sweep, from folders with a known history."""

import io
import json
import os
import re
import shutil
import time
from collections import Counter
from dataclasses import replace

import pytest
from rich.console import Console

from aimv2.ablations.expand import expand
from aimv2.ablations.request import Request
from aimv2.ablations.studies.prefix_ratio import PREFIX_RATIO
from aimv2.config.training_config import LogConfig
from aimv2.definitions.metrics import Metric
from aimv2.runs import index
from aimv2.runs.failure import Failure
from aimv2.runs.index import Entry, add, remove
from aimv2.runs.lease import holder
from aimv2.runs.record import RunFolder
from aimv2.sweeps.active_launches import at_work
from aimv2.sweeps.board import headline
from aimv2.sweeps.executors.base import queue_of
from aimv2.sweeps.plan import Plan, Task, TaskList
from aimv2.sweeps.progress import MAX_SINGLE, STALLED_SECONDS, Looks, RunReader, board_looks, plan_status, single_status
from tests.helpers.ledger import counted, write_runs
from tests.helpers.sweeps import board_of

MINUTE = 60.0
METRICS = {"caption_loss": Metric(1.0, "nats/token", "a test")}


def sweep_status(request, runs_dir):
    plan = Plan(request.folder, request.cells, runs_dir, (request,))
    return plan_status(plan, queue_of=queue_of)


@pytest.fixture
def prefix_request(tiny, tmp_path):
    study = replace(PREFIX_RATIO, controls=())
    data = replace(tiny.data, cache_dir=str(tmp_path / "cache"))  # without times of runs of other tests
    base = replace(tiny, budget=replace(tiny.budget, samples=80), data=data)
    return Request(study=study, cells=expand(study, base, arms=["uniform", "causal"], seeds=range(3)), arguments=())


def rows(losses, speed):
    return [
        {"step": n, "samples": 8 * n, "text_loss": loss, "images_per_second": speed} for n, loss in enumerate(losses)
    ]


@pytest.fixture
def attempts(prefix_request, tmp_path):
    """Runs in each state: two done, one active, one failed, one interrupted, one whose worker died, the rest new."""
    cells = {(cell.arm, cell.seed): cell for cell in prefix_request.cells}

    def claim(arm, seed):
        cell = cells[arm, seed]
        return RunFolder(tmp_path, cell.name).acquire(cell.config)

    for seed, losses in ((0, [5, 4, 3.0]), (1, [5, 4, 3.5])):
        with claim("uniform", seed) as attempt:
            attempt.write_rows(rows(losses, 100))
            attempt.publish(METRICS, train_flops=1, train_seconds=1.0)
    with claim("causal", 0) as attempt:
        attempt.fail(Failure("not finite", "text_loss is nan at step 3"), "")
    with claim("causal", 1) as attempt:
        attempt.write_rows(rows([5, 4], 100))
        (attempt.folder / "interrupted").touch()
    with claim("causal", 2):
        pass  # died
    with claim("uniform", 2) as attempt:
        attempt.write_rows(rows([5, 4, 3.75], 40))
        yield attempt


CURVE = 2 * 16 / 2  # samples that take as long as the two points of the held-out curve, of 16 pairs each


def test_status_of_each_run(prefix_request, tmp_path, attempts):
    found = {(run.arm, run.seed): run for run in sweep_status(prefix_request, tmp_path).runs}
    assert {key: run.state for key, run in found.items()} == {
        ("uniform", 0): "done",
        ("uniform", 1): "done",
        ("uniform", 2): "running",
        ("causal", 0): "failed",
        ("causal", 1): "waiting",
        ("causal", 2): "failed",
        **{("untrained", seed): "waiting" for seed in range(3)},
    }
    running = found["uniform", 2]
    assert (running.samples, running.budget, running.losses) == (16, 80, "text 3.750")
    assert running.seconds_left == pytest.approx((64 + CURVE * 64 / 80) / 40)
    assert (found["causal", 0].cause, found["causal", 2].cause) == ("not finite", "node")
    assert (found["causal", 1].samples, found["causal", 1].cause) == (8, "time")
    assert found["causal", 1].note == "the run was interrupted; the next attempt of the same code resumes it"
    shown = headline(sweep_status(prefix_request, tmp_path))
    assert "2 done, 1 running, 2 failed, 4 waiting; 184 of 480 samples" in shown
    left = (80 - 16) + (80 - 8)  # of the running and the interrupted run; those that failed are not repeated
    assert f"about {left / 40:.0f} s of training left; no evaluation was timed yet" in shown


def test_time_left_of_a_run_has_the_evaluation_that_another_run_took(prefix_request, tmp_path):
    first, second = (cell for cell in prefix_request.cells if cell.arm == "uniform" and cell.seed < 2)
    with RunFolder(tmp_path, first.name).acquire(first.config) as attempt:
        attempt.write_rows([{"step": 0, "seconds": 1.0}, {"step": 1, "images_per_second": 40.0}])
        attempt.publish(METRICS, train_flops=1, train_seconds=3.0)
    path = tmp_path / first.name / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 123.0}))

    def left():
        return next(run.seconds_left for run in sweep_status(prefix_request, tmp_path).runs if run.run == second.name)

    with RunFolder(tmp_path, second.name).acquire(second.config) as attempt:
        attempt.write_rows(rows([5, 4], 40))
        assert left() == pytest.approx((72 + CURVE * 72 / 80) / 40 + 121)
        attempt.write_rows([{"step": 10, "samples": 80, "images_per_second": 40}])
        attempt.sync_rows()
        written = time.time() - 100
        os.utime(attempt.folder / "metrics.jsonl", (written, written))
        found = left()
        assert 121 - (time.time() - written) - 0.01 <= found <= 121 - 100 + 0.01
        os.utime(attempt.folder / "metrics.jsonl", (written - 1000, written - 1000))
        assert left() is None, "it takes longer than the other"


def test_missing_heartbeat_is_noted_and_runs_wait_for_an_active_launch(prefix_request, tmp_path, attempts):
    silent = time.time() - 60
    os.utime(attempts.folder / "heartbeat", (silent, silent))
    assert sweep_status(prefix_request, tmp_path).waits == "no active launch of this sweep, so launch it again"
    with at_work(tmp_path, prefix_request.folder, []):
        found = sweep_status(prefix_request, tmp_path)
    note = next(run.note for run in found.runs if run.state == "running")
    assert float(re.search(r"no heartbeat for (\d+) s", note)[1]) >= 60
    assert found.waits == "no worker, core, GPU or memory is free yet"


def test_status_writes_nothing(prefix_request, tmp_path, attempts):
    def everything():
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "heartbeat"}

    before = everything()
    sweep_status(prefix_request, tmp_path)
    assert everything() == before


def test_report_is_named_once_no_launch_is_active(prefix_request, tmp_path):
    found = replace(prefix_request, arguments=("sweep=prefix_ratio", f"reports_dir={tmp_path / 'reports'}"))
    assert sweep_status(found, tmp_path).report == "", "there is none"
    report = tmp_path / "reports" / found.folder / "report.md"
    report.parent.mkdir(parents=True)
    report.touch()
    assert sweep_status(found, tmp_path).report == str(report)
    with at_work(tmp_path, found.folder, []):
        assert sweep_status(found, tmp_path).report == ""


def test_done_runs_of_different_code_are_noted(prefix_request, tmp_path):
    for cell, code in zip(prefix_request.cells, ("5f0c1b7de1a2", "ab12cd34ef56"), strict=False):
        with RunFolder(tmp_path, cell.name).acquire(cell.config) as attempt:
            attempt.write_manifest({"code": code})
            attempt.publish(METRICS, train_flops=1)
        found = sweep_status(prefix_request, tmp_path)
    assert found.code.startswith(
        "done runs are of code 5f0c1b7de1a2 (1), ab12cd34ef56 (1). The report draws no verdict"
    )
    allowed = replace(prefix_request, study=replace(prefix_request.study, allow_mixed_code=True))
    assert "The report draws verdicts from the mixture" in sweep_status(allowed, tmp_path).code


def test_a_run_that_lost_its_worker_waits_while_a_launch_is_active(prefix_request, tmp_path, attempts):
    cell = next(cell for cell in prefix_request.cells if (cell.arm, cell.seed) == ("causal", 2))
    attempt = tmp_path / cell.name / "attempts" / "0001"
    (attempt / "released").unlink()
    (attempt / "holder.json").write_text(json.dumps(holder(attempt) | {"process_start": "1"}))  # it was killed
    remove(tmp_path, cell.name, Entry("idle", 1))
    add(tmp_path, cell.name, Entry("running", 1))

    def state():
        return next(run.state for run in sweep_status(prefix_request, tmp_path).runs if run.run == cell.name)

    assert state() == "failed"
    with at_work(tmp_path, prefix_request.folder, ["v2-another"]):
        assert state() == "failed", "the launch does not have it"
    with at_work(tmp_path, prefix_request.folder, [cell.name]):
        assert state() == "waiting"


@pytest.mark.parametrize(
    ("cause", "num_since", "expected"),
    [
        ("bug", 0, "waiting"),
        ("bug", 1, "failed"),
        ("node", 1, "waiting"),
        ("node", 2, "waiting"),
        ("node", 3, "failed"),
    ],
)
def test_a_failed_run_waits_if_the_active_launch_repeats_it(prefix_request, tmp_path, cause, num_since, expected):
    cell = prefix_request.cells[0]

    def fail():
        with RunFolder(tmp_path, cell.name).acquire(cell.config) as attempt:
            attempt.fail(Failure(cause, "a test"), "")

    def run():
        return next(run for run in sweep_status(prefix_request, tmp_path).runs if run.run == cell.name)

    fail()
    assert run().state == "failed"
    with at_work(tmp_path, prefix_request.folder, [cell.name]):
        for _ in range(num_since):
            fail()
        assert run().state == expected
        tasks = [Task(cell.name, cell.config, after=1)]
        assert bool(TaskList(tasks, tmp_path).open_tasks().free) == (expected == "waiting"), "what workers do"


def test_a_done_run_without_its_result_waits(prefix_request, tmp_path, attempts):
    done = {run.run for run in sweep_status(prefix_request, tmp_path).runs if run.state == "done"}
    lost, kept = sorted(done)
    (tmp_path / lost / "result.json").unlink()
    found = {run.run: run for run in sweep_status(prefix_request, tmp_path).runs}
    assert (found[lost].state, found[lost].samples, found[lost].note) == ("waiting", 0, "its result was deleted")
    assert found[kept].state == "done"
    (tmp_path / kept / "result.json").write_text("garbage")
    found = {run.run: run for run in sweep_status(prefix_request, tmp_path).runs}
    assert (found[kept].state, found[kept].cause) == ("failed", "data")
    assert found[kept].note.startswith(f"{tmp_path / kept / 'result.json'} is not the result of a run; delete ")


def test_a_launch_of_another_study_counts_if_it_does_all_that_is_missing(prefix_request, tmp_path, attempts):
    missing = [run.run for run in sweep_status(prefix_request, tmp_path).runs if run.state != "done"]
    with at_work(tmp_path, "another", missing[:-1]):
        assert sweep_status(prefix_request, tmp_path).num_launches == 0
    with at_work(tmp_path, "another", [*missing, "v2-another"]):
        assert sweep_status(prefix_request, tmp_path).num_launches == 1


def single(runs_dir, others=()):
    return single_status(runs_dir, others, RunReader(), Looks(), queue_of=queue_of)


def test_single_runs_are_those_of_no_study(prefix_request, tmp_path, attempts, tiny):
    others = {cell.name for cell in prefix_request.cells}
    assert single(tmp_path, others) is None
    with RunFolder(tmp_path, tiny.name).acquire(tiny) as attempt:
        attempt.write_rows(rows([5, 4], 100))
        attempt.sync_rows()
        (run,) = single(tmp_path, others).runs
        assert (run.run, run.arm, run.state, run.samples) == (tiny.name, "aimv2", "running", 8)
        attempt.fail(Failure("bug", "a test"), "")
    found = single(tmp_path, others)
    assert [run.state for run in found.runs] == ["failed"]
    assert (found.name, found.waits) == ("train", "type the same command again to resume it")


def test_active_single_runs_come_first_and_their_number_is_bounded(tiny, tmp_path):
    configs = [replace(tiny, seed=seed) for seed in range(MAX_SINGLE + 3)]
    for config in configs[1:]:
        with RunFolder(tmp_path, config.name).acquire(config) as attempt:
            attempt.publish(METRICS, train_flops=1)
    with RunFolder(tmp_path, configs[0].name).acquire(configs[0]):
        found = single(tmp_path)
        shutil.copytree(tmp_path / found.runs[0].run, tmp_path / "v1-000000000000")  # of another version
        again = single(tmp_path)
    assert len(again.runs) == MAX_SINGLE - 1
    assert again.code == "5 more single runs are not shown"
    assert [run.state for run in found.runs] == ["running"] + ["done"] * (MAX_SINGLE - 1)
    assert found.code == "3 more single runs are not shown"


@pytest.fixture
def plan_of(tiny, tmp_path):
    """Make a plan of runs of 80 samples in two arms, in a folder of its own."""

    def make(num_seeds, **more):
        base = replace(tiny, budget=replace(tiny.budget, samples=80), **more)
        cells = expand(replace(PREFIX_RATIO, controls=()), base, ["uniform", "causal"], range(num_seeds))
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
