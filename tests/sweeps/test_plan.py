"""The runs of a request that are missing, and which runs of a launch are free, held or over."""

import contextlib
import os
import shutil
from dataclasses import replace

import pytest

from aimv2.ablations.expand import Cell
from aimv2.base.errors import UsageError
from aimv2.base.files import write_json
from aimv2.datasets import open as opening
from aimv2.definitions.metrics import Metric
from aimv2.request.resolve import resolve
from aimv2.runs.failure import Failure
from aimv2.runs.index import Entry, read
from aimv2.runs.lease import GRACE_SECONDS, Watch
from aimv2.runs.provenance import digest
from aimv2.runs.record import LAYOUT_VERSION, MAX_STALLED, RunFolder
from aimv2.sweeps.plan import MAX_WATCHED, Plan, Task, TaskList, code_note, restart_note
from tests.helpers.own_data import own_source


@pytest.fixture
def plan(tiny, tmp_path):
    """Three cells of two runs, the shorter one first."""
    short, long = tiny, replace(tiny, budget=replace(tiny.budget, samples=80))
    cells = [Cell(arm=arm, seed=0, config=config) for arm, config in {"a": short, "b": long, "c": long}.items()]
    return Plan("a plan", cells, tmp_path)


def finish(plan, *cells):
    """Publish results of these cells' runs."""
    for cell in cells:
        with plan.runs[cell.name].acquire(cell.config) as attempt:
            attempt.publish({"caption_loss": Metric(1.0, "nats/token", "a test")})


def test_cells_with_equal_configs_share_a_run_and_long_runs_come_first(plan):
    short, long, shared = plan.cells
    assert list(plan.runs) == [long.name, short.name]
    assert plan.cell_of[long.name] is shared
    assert plan.work([short.name]).configs == [short.config]


def test_a_result_of_another_layout_is_refused_when_planning(plan):
    short, long, _ = plan.cells
    finish(plan, short, long)
    path = plan.runs_dir / long.name / "result.json"
    path.write_text(path.read_text().replace(f'"layout_version": {LAYOUT_VERSION}', '"layout_version": 1'))
    shutil.rmtree(plan.runs_dir / "index")
    with pytest.raises(UsageError, match="has layout 1 and this version reads layout 2; use the version that wrote it"):
        plan.remaining()


@pytest.mark.parametrize("has_index", [True, False])
@pytest.mark.parametrize("content", ["[]", "{", "", "\0\0"])
def test_a_result_that_is_garbage_is_neither_repeated_nor_refused_but_named(plan, content, has_index):
    short, long, _ = plan.cells
    finish(plan, short, long)
    assert plan.broken_results() == []
    (path := plan.runs_dir / long.name / "result.json").write_text(content)
    if not has_index:
        shutil.rmtree(plan.runs_dir / "index")
    assert plan.remaining() == []
    assert plan.broken_results() == [f"{path} is not the result of a run; delete {path.parent} to repeat the run"]


@pytest.mark.parametrize("repair", [True, False])
def test_a_run_whose_result_was_deleted_is_to_be_done_in_a_dry_run_too(plan, repair):
    short, long, _ = plan.cells
    finish(plan, short, long)
    (plan.runs_dir / long.name / "result.json").unlink()
    assert plan.remaining(repair=repair) == [long.name]


def test_planning_completes_the_index(plan):
    short, long, _ = plan.cells
    finish(plan, short)
    shutil.rmtree(plan.runs_dir / "index")
    assert plan.remaining() == [long.name]
    assert read(plan.runs_dir) == {}
    assert plan.remaining(repair=True) == [long.name]
    assert read(plan.runs_dir)[short.name].state == "done"


@pytest.mark.exhaustive
def test_prepare_data_renders_pictures_and_trains_the_tokenizer(tiny, tmp_path):
    data = replace(tiny.data, sources=("fontawesome",), cache_dir=str(tmp_path / "cache"))
    Plan("a plan", [Cell(arm="a", seed=0, config=replace(tiny, data=data))], tmp_path).prepare_data()
    made = {path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert {".npy", ".parquet", ".json"} <= made


ENTRIES = {
    "one": Entry("done", 1, layout=2, code="aaaa"),
    "two": Entry("done", 1, layout=2, code="bbbb"),
    "three": Entry("done", 1, layout=2, code="aaaa"),
    "old": Entry("done", 1),
    "failed": Entry("failed", 1),
}


@pytest.mark.parametrize(
    ("names", "new", "expected"),
    [
        ("one two three", ["cccc"], "done runs are of code aaaa (2), bbbb (1), new ones of cccc. The report"),
        ("one two failed", ["aaaa"], "done runs are of code aaaa (1), bbbb (1), new ones of aaaa. The report"),
        ("one three old", [], "done runs are of code aaaa (2), not recorded (1). The report"),
        ("one three failed absent", ["aaaa"], ""),
        ("one three failed", [], ""),
        ("failed absent", ["aaaa"], ""),
        ("failed absent", ["aaaa+cccc", "cccc"], "new ones of aaaa+cccc, new ones of cccc. The report"),
        ("two", ["aaaa"], "done runs are of code bbbb (1), new ones of aaaa. The report"),
    ],
)
def test_done_runs_of_other_code_are_noted_if_one_report_would_mix_them(names, new, expected):
    note = code_note(ENTRIES, names.split(), new)
    assert note.startswith(expected)
    assert ("unless sweep.allow_mixed_code=true" in note) == bool(expected)
    assert ("code=DIGEST" in note) == bool(expected and new)


def checkpoint_of(run, code):
    folder = run.path / "attempts/0001"
    folder.mkdir(parents=True)
    write_json(folder / "manifest.json", {"code": code})
    (folder / "checkpoint" / "000000001").mkdir(parents=True)


def test_runs_that_other_code_has_begun_are_announced_to_start_again(plan):
    long, short = plan.runs.values()
    checkpoint_of(short, digest())
    assert restart_note([long, short]) == "", "this code resumes it"
    checkpoint_of(long, "aaaa")
    assert restart_note([long, short]) == (
        "interrupted runs start again at step 0, since their checkpoints are of other code: aaaa (1)."
        " To resume instead, launch with code=DIGEST"
    )
    write_json(short.path / "attempts/0001/manifest.json", {"code": "aaaa"})
    assert "of other code: aaaa (2)." in restart_note([long, short])


def test_a_finished_run_on_data_that_was_edited_is_refused_when_planning(tiny, tmp_path):
    path = own_source(tmp_path, num_pairs=20)
    config = resolve(replace(tiny, data=replace(tiny.data, sources=(path,))))
    plan = Plan("a plan", [Cell(arm="a", seed=0, config=config)], tmp_path / "runs")
    (tmp_path / "mine/03.txt").write_text("another caption")
    opening._check.cache_clear()  # as in a new process
    plan.check_finished(plan.remaining())  # a run that is left reads the file
    finish(plan, *plan.cells)
    assert plan.remaining() == [], "as the end of a launch counts, whatever happens to the data"
    opening._check.cache_clear()  # as in a new process
    with pytest.raises(UsageError, match=r"mine is not as it was indexed \(03.txt is changed\)"):
        plan.check_finished(plan.remaining())


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
    run = RunFolder(tmp_path, task.name)
    for _ in range(MAX_STALLED):
        assert is_free(task, tmp_path)
        with contextlib.suppress(ending), run.acquire(task.config):
            raise ending
    assert not is_free(task, tmp_path)
    assert is_free(replace(task, after=1), tmp_path), "another launch tries again"


def test_a_run_that_makes_progress_is_never_given_up(task, tmp_path):
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
