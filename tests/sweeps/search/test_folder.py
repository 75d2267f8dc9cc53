"""The folder of a search: numbers are exact, points are new, and every trial ends."""

import json
import multiprocessing
import os
import signal
import sys
from dataclasses import replace

import pytest

from aimv2.ablations.design import Arm, factorial, setting
from aimv2.base import files
from aimv2.base.errors import UsageError
from aimv2.config.training_config import BudgetConfig
from aimv2.runs.failure import Failure
from aimv2.runs.index import Entry
from aimv2.sweeps.plan import Task
from aimv2.sweeps.search.config import MAX_FAILED, folder_of
from aimv2.sweeps.search.folder import SearchFolder
from aimv2.sweeps.search.outcome import to_json
from tests.helpers.files import files_limited_to
from tests.helpers.trials import BOX, begin, do, end_trial, search, settle

LEVELS = tuple("abc")
GRID = factorial(
    {name: setting(name, {"objective.pixel_weight": number / 10}) for number, name in enumerate(LEVELS)},
    {name: setting(name, {"optimizer.peak_lr": 1e-3 + number / 1e4}) for number, name in enumerate(LEVELS)},
    names=("weight", "rate"),
)


def states(folder):
    return [trial.state for trial in folder.trials]


def content(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def ask_all(one, runs_dir, count):
    """Ask for trials until there is none, as a worker does that does its trials at once."""
    folder = SearchFolder(one, runs_dir)
    while (task := folder.ask()) is not None:
        do(runs_dir, task, content_loss=float(task.trial))
        settle(folder)
        count.append(task.trial)


def test_the_first_trial_is_the_baseline(tiny, tmp_path):
    one = search(tiny)
    task = SearchFolder(one, tmp_path).ask()
    assert (task.trial, task.config) == (0, one.run(one.baseline))


def test_several_processes_draw_exactly_the_trials_that_are_wanted_and_no_point_twice(tiny, tmp_path):
    context, one = multiprocessing.get_context("fork"), search(tiny, design=GRID, trials=8, sampler="random")
    with context.Manager() as manager:
        drawn = manager.list()
        workers = [context.Process(target=ask_all, args=(one, tmp_path, drawn)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * 4
        assert sorted(drawn) == list(range(8))
    trials = SearchFolder(one, tmp_path).trials
    assert [(trial.number, trial.state) for trial in trials] == [(number, "finished") for number in range(8)]
    assert len({trial.run for trial in trials}) == 8
    assert len(list(tmp_path.glob("v*/attempts/*"))) == 8
    assert not list(tmp_path.glob("searches/*/.*")), "no process left a temporary file"


def test_a_point_that_another_worker_draws_in_between_is_drawn_by_it_alone(tiny, tmp_path):
    others = []

    def drawing(config):
        if others:
            others.pop().ask()
        return config

    levels = {"a": Arm(label="a", change=drawing), "b": setting("b", {"objective.pixel_weight": 0.0})}
    one = search(tiny, design=factorial(levels, names=("x",)), trials=2)
    folder = SearchFolder(one, tmp_path)
    others.append(SearchFolder(one, tmp_path))
    assert folder.ask().trial == 1
    first, second = folder.trials
    assert first.run != second.run
    assert folder.ask() is None


def test_a_finite_space_ends_with_its_points(tiny, tmp_path):
    drawn = []
    ask_all(search(tiny, design=GRID, trials=30), tmp_path, drawn)
    assert drawn == list(range(9))


def test_more_trials_continue_a_search(tiny, tmp_path):
    drawn = []
    ask_all(search(tiny, trials=2), tmp_path, drawn)
    ask_all(search(tiny, trials=5), tmp_path, drawn)
    assert drawn == [0, 1, 2, 3, 4]


def test_an_unfinished_trial_keeps_its_run(tiny, tmp_path):
    one = search(tiny, trials=1)
    task = SearchFolder(one, tmp_path).ask()
    again = SearchFolder(one, tmp_path)
    assert [again.task(trial) for trial in settle(again)] == [task]
    assert again.ask() is None


def test_a_run_that_another_sweep_has_done_is_recorded(tiny, tmp_path):
    one = search(tiny, trials=1, metrics=["content_loss", "train_flops"])
    task = SearchFolder(one, tmp_path).ask()
    do(tmp_path, task, content_loss=2.5, train_flops=123)
    (trial,) = settle(SearchFolder(one, tmp_path))
    assert (trial.state, trial.values) == ("finished", (2.5, 123.0))
    assert (trial.spent["samples"], trial.spent["flops"]) == (16, 123)


def rows(num_steps=3):
    shared = {"train_flops": 1, "seconds": 1.0}
    return [{"step": n, "samples": 8 * n, "held_out_caption_loss": 5.0 - n} | shared for n in range(num_steps)]


def test_the_curve_of_a_run_of_another_study_is_recorded(tiny, tmp_path):
    one = search(tiny, trials=1)
    do(tmp_path, SearchFolder(one, tmp_path).ask(), content_loss=2.5, rows=rows())
    (trial,) = settle(SearchFolder(one, tmp_path))
    assert trial.curve == {1: 3.0}, "the curve has the points 0 and 1, after the last step"


def test_a_folder_that_is_only_read_stays_as_it_is(tiny, tmp_path):
    one = search(tiny, trials=3, seeds=(0,))
    for _ in range(2):
        task = SearchFolder(one, tmp_path).ask()
    do(tmp_path, task, content_loss=2.5)
    before = content(tmp_path)
    folder = SearchFolder(one, tmp_path, is_read_only=True)
    assert [trial.state for trial in settle(folder)] == ["running", "finished"]
    folder.show_winners(["a run"])
    assert content(tmp_path) == before
    assert states(SearchFolder(one, tmp_path)) == ["running", "running"]


@pytest.mark.parametrize(("cause", "state", "num_left"), [("not finite", "pruned", 0), ("bug", "failed", 1)])
def test_a_run_that_diverges_is_a_result_and_one_that_fails_is_not(tiny, tmp_path, cause, state, num_left):
    one = search(tiny, trials=1)
    task = SearchFolder(one, tmp_path).ask()
    with begin(tmp_path, task) as attempt:
        attempt.fail(Failure(cause, "a test"), "")
    folder = SearchFolder(one, tmp_path)
    (trial,) = settle(folder)
    assert (trial.state, trial.note) == (state, f"{cause}: a test")
    assert folder.num_new([trial]) == num_left


def test_a_launch_whose_trials_fail_ends_and_the_next_one_goes_on(tiny, tmp_path):
    folder = SearchFolder(search(tiny), tmp_path)
    for number in range(MAX_FAILED):
        assert end_trial(folder, "failed").trial == number
    assert folder.ask() is None
    assert len({trial.run for trial in folder.trials}) == MAX_FAILED, "no failed point is drawn again"
    assert SearchFolder(search(tiny), tmp_path, failed_before=range(MAX_FAILED)).ask().trial == MAX_FAILED


def test_a_point_that_failed_in_an_earlier_launch_is_drawn_again_in_a_finite_space(tiny, tmp_path):
    one = search(tiny, design=GRID, trials=9)
    folder = SearchFolder(one, tmp_path)
    lost = folder.ask()
    with begin(tmp_path, lost) as attempt:
        attempt.fail(Failure("bug", "a test"), "")
    drawn = []
    ask_all(one, tmp_path, drawn)
    assert drawn == list(range(1, 9)), "this launch tries no point twice"
    folder = SearchFolder(one, tmp_path)
    assert folder.num_new(settle(folder)) == 0
    folder = SearchFolder(one, tmp_path, failed_before=[0])
    again = folder.ask()
    assert (again.trial, again.name, again.after) == (9, lost.name, 1)
    do(tmp_path, again, content_loss=1.0)
    assert [trial.state for trial in settle(folder)] == ["failed"] + ["finished"] * 9
    assert folder.ask() is None


def test_a_result_without_the_metric_is_a_failure(tiny, tmp_path):
    one = search(tiny, trials=1)
    do(tmp_path, SearchFolder(one, tmp_path).ask(), caption_loss=2.5)
    (trial,) = settle(SearchFolder(one, tmp_path))
    assert (trial.state, trial.note) == ("failed", "its run has no content_loss")


def test_a_garbage_result_is_a_failure(tiny, tmp_path):
    one = search(tiny, trials=1)
    task = SearchFolder(one, tmp_path).ask()
    do(tmp_path, task, content_loss=1.0)
    (path := tmp_path / task.name / "result.json").write_text("garbage")
    (trial,) = settle(SearchFolder(one, tmp_path))
    assert (trial.state, trial.note.startswith(f"{path} is not the result of a run")) == ("failed", True)


def test_a_trial_ends_once(tiny, tmp_path):
    one = search(tiny, trials=1)
    folder, other = SearchFolder(one, tmp_path), SearchFolder(one, tmp_path)
    folder.ask()
    (trial,) = folder.trials
    folder.end(replace(trial, state="pruned"))
    other.end(replace(trial, state="finished", values=(1.0,)))
    assert states(folder) == states(other) == ["pruned"]


def test_a_full_disk_loses_no_trial(tiny, tmp_path):
    one, path = search(tiny, trials=4), folder_of(tmp_path, "a_search")
    with pytest.raises(OSError, match=r"No space left|File too large"), files_limited_to(10):
        SearchFolder(one, tmp_path)
    folder = SearchFolder(one, tmp_path)
    for number in range(4):
        before = content(path)
        with pytest.raises(OSError, match=r"No space left|File too large"), files_limited_to(number * 50):
            folder.ask()
        assert content(path) == before
        do(tmp_path, folder.ask(), content_loss=float(number))
        before = content(path)
        with pytest.raises(OSError, match=r"No space left|File too large"), files_limited_to(number * 50):
            settle(folder)
        assert content(path) == before
        assert states(SearchFolder(one, tmp_path, is_read_only=True)) == ["finished"] * number + ["running"]
        settle(folder)
    assert states(folder) == ["finished"] * 4
    assert folder.ask() is None


def killed_at_line(number, call, *arguments):
    """Call a function in a process of its own, which is killed at the n-th line of those that write files.

    Returns:
        True if it was; False if it did not come that far.
    """

    def at_line(frame, event, _):
        nonlocal number
        if frame.f_code.co_filename != files.__file__:
            return None
        number -= event == "line"
        if number < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return at_line

    def target():
        sys.settrace(at_line)
        call(*arguments)

    process = multiprocessing.get_context("fork").Process(target=target)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.mark.exhaustive
def test_a_worker_that_is_killed_at_any_line_leaves_a_trial_or_none(tiny, tmp_path):
    """It opens the folder, draws a trial, records a point of its curve and its end."""
    one = search(tiny, trials=2)

    def work(runs_dir):
        folder = SearchFolder(one, runs_dir)
        task = folder.ask()
        folder.report(task, rows()[2])
        end_trial(folder, "pruned", task)

    number, found = 0, set()
    while killed_at_line(number, work, tmp_path / str(number)):
        folder = SearchFolder(one, tmp_path / str(number))
        found.add(tuple((trial.state, *trial.curve) for trial in folder.trials))
        drawn = [folder.ask().trial for _ in range(folder.num_new(folder.trials))]
        assert [*range(2)][2 - len(drawn) :] == drawn
        assert len({trial.run for trial in folder.trials}) == 2
        number += 1
    assert found == {(), (("running",),), (("running", 1),), (("pruned", 1),)}


@pytest.mark.parametrize("name", ["search.json", "0000.json", "0002-end.json", "winners.json"])
@pytest.mark.parametrize(
    "text", [b"not json\n", b"[1]", b'{"garbage": 0}', b"\xff\xfe\n", b"", b'{"run":1,"params":[]}']
)
def test_garbage_in_a_file_is_one_sentence(tiny, tmp_path, name, text):
    one, path = search(tiny), folder_of(tmp_path, "a_search") / name
    folder = SearchFolder(one, tmp_path)
    folder.ask()
    folder.report(folder.ask(), rows()[2])
    end_trial(folder, "pruned")
    path.write_bytes(text)
    with pytest.raises(UsageError, match="a_search") as caught:
        SearchFolder(one, tmp_path).show_winners([str(number) for number in settle(SearchFolder(one, tmp_path))])
    assert str(path if name != "search.json" or text[1:2] != b'"' else path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trial_that_is_missing_is_named(tiny, tmp_path):
    one, path = search(tiny), folder_of(tmp_path, "a_search")
    for _ in range(3):
        SearchFolder(one, tmp_path).ask()
    (path / "0001.json").unlink()
    with pytest.raises(UsageError, match=rf"^{path / '0001.json'} cannot be read as JSON; restore the file, or move"):
        SearchFolder(one, tmp_path).ask()


def test_a_trial_of_another_space_is_named(tiny, tmp_path):
    folder = SearchFolder(search(tiny), tmp_path)
    folder.ask()
    (path := folder.path / "0000.json").write_text(path.read_text().replace("objective.pixel_weight", "another"))
    with pytest.raises(UsageError, match=rf"^trial 0 in {folder.path} is corrupt: "):
        folder.ask()


@pytest.mark.parametrize(
    "damage",
    [
        {"params": {}},
        {"params": {"objective.pixel_weight": "x"}},
        {"params": {"objective.pixel_weight": -99.0}},
        {"run": "v2-000000000000"},
        {"run": "../../etc"},
        {"curve": {"99": 1.0}},
        {"curve": {"-1": 1.0}},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["", "-end"])
def test_a_trial_whose_content_is_impossible_is_named(tiny, tmp_path, damage, kind):
    """These are valid JSON, of the right types."""
    one = search(tiny, trials=1)
    SearchFolder(one, tmp_path).ask()
    if kind:
        end_trial(SearchFolder(one, tmp_path), "finished", Task("", tiny, 0, trial=0), 1.0)
    path = folder_of(tmp_path, "a_search") / f"0000{kind}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    folder = SearchFolder(one, tmp_path)
    with pytest.raises(UsageError, match=r"a_search.* (is corrupt|restore the file)"):
        to_json(folder, settle(folder))


def test_a_result_that_was_deleted_is_named(tiny, tmp_path):
    folder = SearchFolder(search(tiny), tmp_path)
    do(tmp_path, task := folder.ask(), content_loss=1.0)
    (path := tmp_path / task.name / "result.json").unlink()
    folder.settle([task.name])
    assert folder.trials[0].note.startswith(f"{path} is not the result of a run; delete")


def test_a_journal_of_an_older_version_is_refused_and_stays(tiny, tmp_path):
    (journal := tmp_path / "searches" / "a_search.journal").parent.mkdir()
    journal.write_text("a journal")
    with pytest.raises(UsageError, match=rf"^{journal} has the trials of an older version, .*; move it away to search"):
        SearchFolder(search(tiny), tmp_path)
    assert content(tmp_path) == {journal.relative_to(tmp_path): b"a journal"}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"sampler": "random"}, 'search.sampler was "tpe" and is "random"'),
        ({"seed": 501}, "search.seed was 500 and is 501"),
        ({"design": GRID}, 'space was {"objective.pixel_weight": '),
        ({"budget": BudgetConfig(samples=32, batch_size=8)}, "budget.samples was 16 and is 32. Give this one"),
    ],
)
def test_a_search_that_has_changed_is_refused_and_what_differs_is_named(tiny, tmp_path, change, what):
    SearchFolder(search(tiny), tmp_path)
    base = replace(tiny, budget=change.pop("budget", tiny.budget))
    with pytest.raises(UsageError, match="is of another search") as caught:
        SearchFolder(search(base, **change), tmp_path)
    assert what in str(caught.value)
    assert "move the folder away" in str(caught.value)


def test_trials_of_another_process_are_left_to_it(tiny, tmp_path):
    one = search(tiny, trials=1)
    task = SearchFolder(one, tmp_path).ask()
    with begin(tmp_path, task):
        assert settle(SearchFolder(one, tmp_path))[0].state == "running"
    assert (tmp_path / "index" / Entry("idle", 1).name(task.name)).exists()
    assert settle(SearchFolder(one, tmp_path))[0].state == "running", "it was interrupted, and can be resumed"


def test_optuna_sees_the_trials(tiny, tmp_path):
    one = search(tiny, trials=4)
    ask_all(one, tmp_path, [])
    folder = SearchFolder(one, tmp_path)
    study = folder.study(folder.trials)
    assert (study.best_value, study.best_trial.number) == (0.0, 0)
    assert [trial.params for trial in study.trials] == [trial.params for trial in folder.trials]
    assert json.loads((folder.path / "search.json").read_text()) == one.definition()


def test_a_sequence_of_points_is_continued_by_other_processes(tiny, tmp_path):
    """Optuna's sampler keeps with the study how far it is."""
    one = search(tiny, design=BOX, sampler="qmc", trials=5)
    for _ in range(5):
        SearchFolder(one, tmp_path).ask()
    trials = SearchFolder(one, tmp_path).trials
    assert [list(trial.study_attributes.values()) for trial in trials] == [[], [0], [1], [2], [3]]
