"""The work of a search: no worker waits, pruned trials stop, and the winner is confirmed."""

import heapq
import json
import random
import shutil
import signal
from dataclasses import replace

import pytest
from rich.console import Console

from aimv2.ablations.design import factorial, setting
from aimv2.ablations.study import WINNER
from aimv2.base.interrupt import Interrupts
from aimv2.runs.failure import Failure
from aimv2.runs.record import MAX_STALLED, RunFolder
from aimv2.sweeps.active_launches import active_launches, cancel, new_launch
from aimv2.sweeps.plan import Task, read_work, write_work
from aimv2.sweeps.search.config import folder_of
from aimv2.sweeps.search.folder import SearchFolder
from aimv2.sweeps.search.planned import PlannedSearch
from aimv2.sweeps.search.work import SearchTasks, SearchWork
from aimv2.sweeps.worker import Worker
from tests.helpers.trials import begin, do, end, requested, search, settle


def tasks_of(one, runs_dir):
    return SearchTasks(SearchFolder(one, runs_dir), [Task(cell.name, cell.config, 0) for cell in requested(one).cells])


def test_four_workers_wait_for_nobody(tiny, tmp_path):
    """Times of trials differ tenfold. Their time is simulated: a worker is idle from the end of a trial, if it gets no
    other one, until the last worker ends."""
    one, times = search(tiny, trials=50, sampler="random", seeds=(0,)), random.Random(0)
    tasks = [tasks_of(one, tmp_path) for _ in range(4)]
    spans = []
    queue = [(0.0, worker, None) for worker in range(4)]
    ends = {}
    while queue:
        now, worker, attempt = heapq.heappop(queue)
        if attempt is not None:
            end(attempt, content_loss=now)
        for task in tasks[worker].take():
            if (attempt := begin(tmp_path, task)) is not None:
                takes = times.choice([1.0, 2.0, 5.0, 10.0])
                spans.append((now, now + takes))
                heapq.heappush(queue, (now + takes, worker, attempt))
                break
        else:
            ends[worker] = now
    trials = settle(SearchFolder(one, tmp_path))
    assert len(trials) == 50
    assert {trial.state for trial in trials} == {"finished"}
    # After the last trial only one worker is there to confirm the winner.
    window = sorted(ends.values())[-2]
    working = sum(min(last, window) - first for first, last in spans if first < window)
    assert 0.95 < working / (4 * window) <= 1


def test_idle_workers_confirm_the_baseline_while_the_last_trial_runs(tiny, tmp_path):
    one = search(tiny, trials=1)
    tasks = tasks_of(one, tmp_path)
    (trial, *_) = tasks.take()
    with begin(tmp_path, trial):
        free = tasks.open_tasks().free
        assert [task.config.seed for task in free] == [0, 1]
        assert {task.config.evaluation.split for task in free} == {"test"}
        assert {task.trial for task in free} == {None}
        assert list(tasks.take()) == free


def test_the_winner_is_confirmed_once_all_trials_are_over(tiny, tmp_path):
    one = search(tiny, trials=3)
    tasks = tasks_of(one, tmp_path)
    for loss in (3.0, 1.0, 2.0):
        task = next(tasks.take())
        assert do(tmp_path, task, content_loss=loss)
    trials = settle(SearchFolder(one, tmp_path))
    now = tasks.open_tasks()
    assert [task.config.seed for task in now.free] == [0, 1, 0, 1]
    weight = trials[1].params["objective.pixel_weight"]
    assert [task.config.objective.pixel_weight for task in now.free] == [0.4, 0.4, weight, weight]
    assert {task.config.evaluation.split for task in now.free} == {"test"}
    for task in now.free:
        do(tmp_path, task, content_loss=1.0)
    assert tasks.open_tasks().is_over
    assert list(tasks.take()) == []


def test_a_trial_that_lost_its_worker_comes_first(tiny, tmp_path):
    one = search(tiny, trials=2)
    tasks = tasks_of(one, tmp_path)
    lost = next(tasks.take())
    with begin(tmp_path, lost):
        pass  # it ends without a result
    assert next(tasks_of(one, tmp_path).take()) == lost


def test_a_trial_whose_workers_are_killed_again_and_again_has_failed_and_is_replaced(tiny, tmp_path):
    """Nobody writes into the index that a killed worker has ended."""
    one = search(tiny, trials=2, seeds=(0,))
    do(tmp_path, next(tasks_of(one, tmp_path).take()), content_loss=1.0)
    lost = next(tasks_of(one, tmp_path).take())
    for number in range(1, MAX_STALLED + 1):
        attempt = begin(tmp_path, lost)
        holder = attempt.folder / "holder.json"
        holder.write_text(json.dumps(json.loads(holder.read_text()) | {"process_start": "another"}))  # it has ended
        assert attempt.folder.name == f"{number:04d}"
    tasks = tasks_of(one, tmp_path)
    assert not tasks.open_tasks().is_over
    assert [trial.state for trial in tasks.folder.trials] == ["finished", "failed"]
    replaced = next(tasks.take())
    assert (replaced.trial, replaced.name != lost.name) == (2, True)
    do(tmp_path, replaced, content_loss=0.5)
    assert [task.config.seed for task in tasks_of(one, tmp_path).open_tasks().free] == [0, 0], "the winner is confirmed"


def garbage(path):
    (path / "0001.json").write_text("garbage")


def garbage_of_the_pruner(path):
    drawn = json.loads((path / "0000.json").read_text())
    (path / "0000-curve.json").write_text(json.dumps(drawn | {"attributes": {"completed_rung_0": "x"}}))


def no_folder(path):
    shutil.rmtree(path)


def file_in_its_place(path):
    shutil.rmtree(path)
    path.touch()


@pytest.mark.parametrize("damage", [garbage, garbage_of_the_pruner, no_folder, file_in_its_place])
def test_an_error_of_the_search_does_not_fail_the_run(long, pairs, tmp_path, capsys, damage):
    one = search(long, trials=2, seeds=(0,))
    SearchFolder(one, tmp_path).ask()
    tasks = tasks_of(one, tmp_path)
    task = tasks.folder.ask()
    with tasks.follow(task, lambda: None) as follower:
        damage(folder_of(tmp_path, one.name))
        follower.on_rows([{"step": 1, "samples": 8, "train_flops": 1, "seconds": 1.0, "held_out_caption_loss": 2.0}])
    assert "trial 1 is not pruned at this point: " in capsys.readouterr().err
    assert not follower.is_stopped


def test_trials_that_were_not_drawn_have_no_name(tiny, tmp_path):
    tasks = tasks_of(search(tiny, trials=3), tmp_path)
    now = tasks.open_tasks()
    assert [task.name for task in now.free[-3:]] == ["", "", ""]
    assert not now.is_over
    assert now.num_attempts == 0
    do(tmp_path, next(tasks.take()), content_loss=1.0)
    assert tasks.open_tasks().num_attempts == 1, "a worker that has done a trial was not idle"


def train_until_pruned(one, runs_dir, launch_dir, on_rows=lambda rows: None):
    """Do all work of a search, in this process; return its folder."""
    request = requested(one)
    work = PlannedSearch(one, request, runs_dir).work
    report = Worker(work, launch_dir, on_rows, interrupts=Interrupts(poll_seconds=0.0)).work()
    assert (report.problem, report.signal) == ("", None)
    return SearchFolder(one, runs_dir)


@pytest.fixture
def long(tiny):
    """A run of eight steps with a curve of nine points."""
    return replace(
        tiny,
        budget=replace(tiny.budget, samples=64),
        evaluation=replace(tiny.evaluation, curve_points=9),
    )


@pytest.mark.exhaustive
def test_a_pruned_trial_stops_keeps_its_curve_and_leaves_its_run_to_others(long, pairs, tmp_path):
    """The second trial is pruned: its learning rate is none at all."""
    rates = {"good": setting("good", {}), "none": setting("none", {"optimizer.peak_lr": 1e-12})}
    one = search(long, design=factorial(rates, names=("rate",)), trials=2, seeds=(0,))
    folder = train_until_pruned(one, tmp_path, new_launch(tmp_path, "a_search", []))
    good, bad = folder.trials
    assert (good.state, bad.state) == ("finished", "pruned")
    assert list(good.curve) == list(range(1, 9))
    assert 0 < len(bad.curve) < 8
    assert bad.spent["samples"] == 8 * max(bad.curve)
    run = RunFolder(tmp_path, bad.run)
    assert (run.state(), run.num_attempts) == ("new", 1), "a sweep that needs this run resumes it"
    assert list(run.path.glob("attempts/0001/checkpoint/*"))
    curve = [row["held_out_caption_loss"] for row in run.rows() if row.get("held_out_caption_loss")][1:]
    assert list(bad.curve.values()) == pytest.approx(curve)
    # The baseline won, so its run on a fresh seed is all that confirms.
    assert len(list(tmp_path.glob("v*/result.json"))) == 2


@pytest.mark.exhaustive
def test_a_signal_interrupts_a_trial_and_the_next_launch_resumes_it(long, pairs, tmp_path):
    one = search(long, trials=1, pruner="none", seeds=(0,))

    def stop(rows):
        if rows[-1]["step"] == 3:
            signal.raise_signal(signal.SIGTERM)

    request = requested(one)
    work = PlannedSearch(one, request, tmp_path).work
    launch_dir = new_launch(tmp_path, "a_search", work.runs)
    assert Worker(work, launch_dir, stop).work().signal == signal.SIGTERM
    (trial,) = settle(SearchFolder(one, tmp_path))
    assert (trial.state, list(trial.curve)) == ("running", [1, 2, 3])
    (trial,) = settle(train_until_pruned(one, tmp_path, launch_dir))
    assert (trial.state, list(trial.curve)) == ("finished", list(range(1, 9)))
    run = RunFolder(tmp_path, trial.run)
    assert list(run.metrics()["step"]) == list(range(9))


def test_a_cancelled_launch_releases_its_trial(long, pairs, tmp_path):
    one = search(long, trials=1, pruner="none")
    launch_dir = new_launch(tmp_path, "a_search", [])
    work = PlannedSearch(one, requested(one), tmp_path).work

    def stop(rows):
        if rows[-1]["step"] == 3:
            (launch,) = active_launches(tmp_path, lambda folder: True)
            cancel(launch, [])

    Worker(work, launch_dir, stop, interrupts=Interrupts(poll_seconds=0.0)).work()
    (trial,) = settle(SearchFolder(one, tmp_path))
    assert (trial.state, list(trial.curve)) == ("running", [1, 2, 3])


def test_the_work_survives_its_way_to_a_worker(tiny, tmp_path):
    """Studies are made of functions."""
    one = search(tiny, trials=2)
    work = PlannedSearch(one, requested(one), tmp_path).work
    write_work(tmp_path, work)
    again = read_work(tmp_path).of_worker(1)
    assert isinstance(again, SearchWork)
    assert sorted(task.name for task in again.tasks) == sorted(task.name for task in work.tasks)
    assert next(again.task_list(tmp_path).take()).config == one.run(one.baseline)


def test_a_dry_run_writes_nothing(tiny, tmp_path):
    one = search(tiny, trials=3)
    work = PlannedSearch(one, requested(one), tmp_path, is_dry_run=True).work
    assert not list(tmp_path.iterdir())
    assert [task.trial for task in work.tasks] == [None, None, 0, 0, 0]
    assert len(work.priced) == 3 + 2 + 2, "trials, and two arms with two seeds"


@pytest.mark.parametrize("losses", [(1.0,), (2.0, 1.0)], ids=["of the baseline", "of the winner"])
def test_a_failed_confirmation_is_tried_once_more(tiny, tmp_path, losses):
    one = search(tiny, trials=len(losses), seeds=(0,))
    for loss in losses:
        do(tmp_path, next(tasks_of(one, tmp_path).take()), content_loss=loss)
    *others, task = tasks_of(one, tmp_path).open_tasks().free
    for other in others:
        do(tmp_path, other, content_loss=1.0)
    with begin(tmp_path, task) as attempt:
        attempt.fail(Failure("bug", "a test"), "")
    assert tasks_of(one, tmp_path).open_tasks().is_over
    work = PlannedSearch(one, requested(one), tmp_path).work
    assert [again.name for again in work.tasks] == [task.name]
    assert [again.name for again in work.task_list(tmp_path).open_tasks().free] == [task.name]


def test_a_finished_search_requests_both_arms(tiny, tmp_path):
    one = search(tiny, trials=2)
    for loss in (2.0, 1.0):
        do(tmp_path, next(tasks_of(one, tmp_path).take()), content_loss=loss)
    work = PlannedSearch(one, requested(one), tmp_path).work
    cells = work.finish(tmp_path, Console(quiet=True))
    assert work.is_complete(tmp_path)
    assert not replace(work, search=search(tiny, trials=3)).is_complete(tmp_path)
    assert [(cell.arm, cell.seed) for cell in cells] == [(WINNER, 0), (WINNER, 1)]


def test_runs_of_a_study_beside_the_search_are_done_too_and_once(tiny, tmp_path):
    one = search(tiny, trials=1, seeds=(0,))
    work = PlannedSearch(one, requested(one), tmp_path).work
    shared, other = requested(one).cells[0], replace(tiny, seed=9)
    more = [Task(shared.name, shared.config, 0), Task(other.name, other, 0)]
    together = replace(work, tasks=[*more[1:], *work.tasks])
    write_work(folder := new_launch(tmp_path, "a_search", together.runs), together)
    free = read_work(folder).task_list(tmp_path).open_tasks().free
    assert sorted(task.name for task in free) == sorted(["", shared.name, more[1].name])
