"""The work of a search: no worker waits, the winner is confirmed, and the outcome is written."""

import heapq
import json
import random
import signal
from dataclasses import replace

import pytest
from rich.console import Console

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.design import latin_hypercube, setting
from aimv2.ablations.request import read_request
from aimv2.ablations.searches import path_of, read_search
from aimv2.ablations.study import WINNER
from aimv2.base.interrupt import Interrupts
from aimv2.runs.failure import Failure
from aimv2.runs.record import MAX_STALLED, RunFolder
from aimv2.sweeps.active_launches import active_launches, cancel, new_launch
from aimv2.sweeps.executors.local import LocalExecutor
from aimv2.sweeps.plan import Task, read_work, write_work
from aimv2.sweeps.search.trials import MAX_FAILED, SearchFolder
from aimv2.sweeps.search.work import PlannedSearch, SearchTasks, SearchWork, importances, print_outcome, winner_cells
from aimv2.sweeps.worker import Worker
from tests.helpers.trials import begin, do, end, end_trial, requested, search, settle

BOX = latin_hypercube(
    {"recipe": setting("recipe", {})}, linear={}, log={"optimizer.peak_lr": (1e-4, 1e-2)}, num_points=2
)


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


def test_trials_that_were_not_drawn_have_no_name(tiny, tmp_path):
    tasks = tasks_of(search(tiny, trials=3), tmp_path)
    now = tasks.open_tasks()
    assert [task.name for task in now.free[-3:]] == ["", "", ""]
    assert not now.is_over
    assert now.num_attempts == 0
    do(tmp_path, next(tasks.take()), content_loss=1.0)
    assert tasks.open_tasks().num_attempts == 1, "a worker that has done a trial was not idle"


def do_all(one, runs_dir, launch_dir, on_rows=lambda rows: None):
    """Do all work of a search, in this process; return its folder."""
    request = requested(one)
    work = PlannedSearch(one, request, runs_dir).work
    report = Worker(work, launch_dir, on_rows, interrupts=Interrupts(poll_seconds=0.0)).work()
    assert (report.problem, report.signal) == ("", None)
    return SearchFolder(one, runs_dir)


@pytest.fixture
def long(tiny):
    """A run of eight steps with a curve of nine points."""
    return replace(tiny, budget=replace(tiny.budget, samples=64), evaluation=replace(tiny.evaluation, curve_points=9))


@pytest.mark.exhaustive
def test_a_signal_interrupts_a_trial_and_the_next_launch_resumes_it(long, pairs, tmp_path):
    one = search(long, trials=1, seeds=(0,))

    def stop(rows):
        if rows[-1]["step"] == 3:
            signal.raise_signal(signal.SIGTERM)

    request = requested(one)
    work = PlannedSearch(one, request, tmp_path).work
    launch_dir = new_launch(tmp_path, "a_search", work.runs)
    assert Worker(work, launch_dir, stop).work().signal == signal.SIGTERM
    (trial,) = settle(SearchFolder(one, tmp_path))
    assert trial.state == "running"
    (trial,) = settle(do_all(one, tmp_path, launch_dir))
    assert trial.state == "finished"
    run = RunFolder(tmp_path, trial.run)
    assert list(run.metrics()["step"]) == list(range(9))


def test_a_cancelled_launch_releases_its_trial(long, pairs, tmp_path):
    one = search(long, trials=1)
    launch_dir = new_launch(tmp_path, "a_search", [])
    work = PlannedSearch(one, requested(one), tmp_path).work

    def stop(rows):
        if rows[-1]["step"] == 3:
            (launch,) = active_launches(tmp_path, lambda folder: True)
            cancel(launch, [])

    Worker(work, launch_dir, stop, interrupts=Interrupts(poll_seconds=0.0)).work()
    (trial,) = settle(SearchFolder(one, tmp_path))
    assert trial.state == "running"


def test_the_work_survives_its_way_to_a_worker(tiny, tmp_path):
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


@pytest.fixture
def folder(tiny, tmp_path):
    """A search of five trials: three have finished, the second of them is the best; one was pruned, and one failed."""
    folder = SearchFolder(search(tiny, trials=5, name="loss_weight_test_search"), tmp_path)
    for loss in (3.0, 1.0, 4.0):
        do(tmp_path, folder.ask(), content_loss=loss, train_flops=10)
        settle(folder)
    end_trial(folder, "pruned", note="not finite: a test")
    end_trial(folder, "failed", note="bug: a test")
    return folder


def test_a_finished_search_writes_its_record_and_requests_both_arms(folder, tmp_path):
    one = folder.search
    work = PlannedSearch(one, requested(one), tmp_path).work
    cells = work.finish(tmp_path, Console(quiet=True))
    assert [(cell.arm, cell.seed) for cell in cells] == [(WINNER, 0), (WINNER, 1)]
    found = read_search(path_of(tmp_path, one.name))
    assert (found.winner, found.front, found.curve, found.importances) == (1, (1,), None, {})
    assert [trial.state for trial in found.trials] == ["finished"] * 3 + ["pruned", "failed"]
    assert [trial.values for trial in found.trials] == [(3.0,), (1.0,), (4.0,), None, None]
    assert [trial.flops for trial in found.trials[:3]] == [10, 10, 10]
    assert {trial.budget for trial in found.trials} == {16}
    (weight,) = found.space
    assert (weight.name, weight.low, weight.high, weight.log) == ("objective.pixel_weight", 0.0, 2.0, False)
    request = read_request(tmp_path, requested(one).folder, STUDIES)
    weight = folder.trials[1].params["objective.pixel_weight"]
    assert request.study.label(WINNER) == f"trial 1: objective.pixel_weight={weight:.4g}"
    assert {cell.config.objective.pixel_weight for cell in request.cells if cell.arm == WINNER} == {weight}
    assert {cell.config.evaluation.split for cell in request.cells} == {"test"}


def test_the_outcome_is_printed_with_the_notes_of_trials(folder):
    console = Console(record=True, width=300)
    winner = folder.winner(folder.trials)
    print_outcome(folder.search, folder.trials, winner, winner_cells(folder.search, winner), console)
    printed = console.export_text()
    assert "best of 3 finished: trial 1, objective.pixel_weight=" in printed
    assert ", with content_loss 1. The report compares it with the baseline on seeds 0, 1, which no trial" in printed
    assert "trial 3, pruned: not finite: a test; python sweeps/manage.py logs v2-" in printed
    assert "trial 4, failed: bug: a test; python sweeps/manage.py logs v2-" in printed


def test_a_baseline_that_wins_is_not_confirmed_against_itself(tiny, tmp_path):
    one = search(tiny, trials=1)
    do(tmp_path, SearchFolder(one, tmp_path).ask(), content_loss=1.0)
    folder, console = SearchFolder(one, tmp_path), Console(record=True, width=200)
    winner = folder.winner(settle(folder))
    assert (winner.number, winner_cells(folder.search, winner)) == (0, [])
    assert PlannedSearch(one, requested(one), tmp_path).work.finish(tmp_path, console) == []
    assert "best of 1 finished: trial 0, the baseline itself, so there is nothing to confirm" in console.export_text()


def test_runs_of_a_study_beside_the_search_are_done_too_and_once(tiny, tmp_path):
    one = search(tiny, trials=1, seeds=(0,))
    work = PlannedSearch(one, requested(one), tmp_path).work
    shared, other = requested(one).cells[0], replace(tiny, seed=9)
    more = [Task(shared.name, shared.config, 0), Task(other.name, other, 0)]
    together = replace(work, tasks=[*more[1:], *work.tasks])
    write_work(folder := new_launch(tmp_path, "a_search", together.runs), together)
    free = read_work(folder).task_list(tmp_path).open_tasks().free
    assert sorted(task.name for task in free) == sorted(["", shared.name, more[1].name])


def test_a_search_without_a_finished_trial_says_so(tiny, tmp_path):
    folder, console = SearchFolder(search(tiny), tmp_path), Console(record=True, width=200)
    assert (folder.winner([]), winner_cells(folder.search, None)) == (None, [])
    for _ in range(MAX_FAILED):
        end_trial(folder, "failed")
    print_outcome(folder.search, folder.trials, None, [], console)
    printed = console.export_text()
    assert f"{MAX_FAILED} trials have failed, and 0 of 24 are finished or pruned; fix the cause, and launch" in printed
    assert "no trial has finished, so there is no winner" in printed


def test_the_factor_that_matters_is_the_important_one_and_equal_values_have_none(tiny, tmp_path):
    for is_equal in (False, True):
        one, folder = search(tiny, sweep="norm_ffn", trials=4), tmp_path / str(is_equal)
        folder.mkdir()
        for _ in range(4):
            opened = SearchFolder(one, folder)
            task = opened.ask()
            loss = float(is_equal or opened.trials[task.trial].params["norm"] == "rms")
            do(folder, task, **{one.metric: loss})
        found = importances(opened.study(settle(opened)))
        assert (found == {}) == is_equal
        assert is_equal or (found["norm"] > 0.9 and sum(found.values()) == pytest.approx(1.0))


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("finished finished", True),
        ("finished pruned", True),
        ("failed finished pruned", True),  # another trial is in its place
        ("finished failed", False),
        ("pruned pruned", False),  # without a winner
        ("finished", False),
    ],
)
def test_a_search_is_complete_with_all_its_trials_and_a_winner(tiny, tmp_path, states, expected):
    one = search(tiny, trials=2)
    folder = SearchFolder(one, tmp_path)
    for state in states.split():
        end_trial(folder, state, None, *[1.0] * (state == "finished"))
    assert SearchWork([], one, requested(one)).is_complete(tmp_path) == expected


def printed(one, runs_dir):
    console = Console(record=True, width=200)
    PlannedSearch(one, requested(one), runs_dir).show(console, LocalExecutor(), lambda config: None)
    return console.export_text()


def test_the_display_says_what_is_searched_how_and_what_the_result_will_be(tiny, tmp_path):
    text = printed(search(tiny, design=BOX, trials=3), tmp_path)
    assert "optimizer.peak_lr: 0.0001 to 0.01, on a logarithmic scale" in text
    assert "minimize content_loss on the validation split; sampler tpe, trials with seed 500" in text
    assert "the winner is compared with the baseline, recipe, on seeds 0, 1; that is the result" in text
    assert "3 trials: none yet" in text
    assert "price: at most " in text


def test_a_complete_search_has_nothing_left_to_do(tiny, tmp_path):
    one, losses = search(tiny, trials=2, seeds=(0,)), iter((3.0, 2.0, 2.0, 2.0))  # the second trial wins
    for is_last in (False, True):
        for task in PlannedSearch(one, requested(one), tmp_path).work.task_list(tmp_path).take():
            do(tmp_path, task, content_loss=next(losses))
        assert ("nothing is left to do" in printed(one, tmp_path)) == is_last
