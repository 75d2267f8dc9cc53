"""Which runs of a launch are free, held or over."""

import contextlib
import os
from dataclasses import replace

import pytest

from aimv2.runs.failure import Failure
from aimv2.runs.lease import GRACE_SECONDS, Watch
from aimv2.runs.record import MAX_STALLED, RunFolder
from aimv2.sweeps.tasks import MAX_WATCHED, Task, TaskList, Work


@pytest.fixture
def task(tiny):
    return Task(tiny.name, tiny, after=0)


def is_free(task, runs_dir):
    now = TaskList([task], runs_dir).open_tasks()
    assert now.is_over == (now.free == [])
    return now.free == [task]


@pytest.mark.parametrize(("cause", "expected"), [("node", True), ("out of memory", False), ("bug", False)])
def test_a_run_is_tried_again_in_the_same_launch_only_if_its_node_failed(task, tmp_path, cause, expected):
    with RunFolder(tmp_path, task.name).acquire(task.config) as attempt:
        attempt.fail(Failure(cause, "a test"), "")
    assert is_free(task, tmp_path) == expected
    assert is_free(replace(task, after=1), tmp_path), "another launch tries it again"


@pytest.mark.parametrize("ending", [KeyboardInterrupt, ValueError])
def test_attempts_without_progress_end_a_run_however_they_ended(task, tmp_path, ending):
    """An evaluation that was longer than its job was requeued for ever."""
    run = RunFolder(tmp_path, task.name)
    for _ in range(MAX_STALLED):
        assert is_free(task, tmp_path)
        with contextlib.suppress(ending), run.acquire(task.config):
            raise ending
    assert not is_free(task, tmp_path)
    assert is_free(replace(task, after=1), tmp_path), "another launch tries again"


def test_a_run_that_makes_progress_is_never_given_up(task, tmp_path):
    """Two silent deaths ended it."""
    run = RunFolder(tmp_path, task.name)
    for _ in range(3):
        for _ in range(MAX_STALLED - 1):
            with run.acquire(task.config):
                pass
        with run.acquire(task.config) as attempt:
            attempt.mark_progress()
        assert is_free(task, tmp_path)


def test_a_run_is_held_until_its_holder_is_seen_to_be_dead(task, tmp_path):
    time = [0.0]
    attempt = RunFolder(tmp_path, task.name).acquire(task.config)
    assert TaskList([task], tmp_path).open_tasks().held == [task], "its process is on this host"
    (attempt.folder / "holder.json").write_text("{}")
    task_list = TaskList([task], tmp_path, Watch(now=lambda: time[0]))
    assert task_list.open_tasks().unsure == [task]
    os.truncate(attempt.folder / "heartbeat", 5)
    assert task_list.open_tasks().held == [task]
    for _ in range(3):
        time[0] += GRACE_SECONDS / 3
        now = task_list.open_tasks()
    assert (now.free, now.num_attempts) == ([task], 1)


def test_any_number_of_dead_holders_is_found(tiny, tmp_path):
    """Each look watches a bounded number of them."""
    tasks = [Task(config.name, config, 0) for config in (replace(tiny, seed=seed) for seed in range(120))]
    for task in tasks:
        (RunFolder(tmp_path, task.name).acquire(task.config).folder / "released").touch()
    task_list = TaskList(tasks, tmp_path)
    found = [len(task_list.open_tasks().free) for _ in range(4)]
    assert found == [MAX_WATCHED, 2 * MAX_WATCHED, 120, 120]


def test_runs_that_were_given_up_hide_no_other_run(tiny, tmp_path):
    configs = [replace(tiny, seed=seed) for seed in range(MAX_WATCHED + 1)]
    tasks = [Task(config.name, config, 0) for config in configs]
    for task in tasks:
        for _ in range(MAX_STALLED if task is not tasks[-1] else 1):
            (RunFolder(tmp_path, task.name).acquire(task.config).folder / "released").touch()
    task_list = TaskList(tasks, tmp_path)
    task_list.open_tasks()
    assert task_list.open_tasks().free == [tasks[-1]]


def test_the_work_of_a_sweep_lacks_nothing_but_runs(task, tmp_path):
    assert Work([task]).is_complete(tmp_path)
