"""The journal of a search: numbers are exact, points are new, and every trial ends."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from ablations.design import Arm, factorial, setting
from aimv2.base.errors import UsageError
from aimv2.config.run_config import BudgetConfig
from aimv2.runs.failure import Failure
from aimv2.runs.index import Entry
from sweeps.search.config import MAX_FAILED, NOTE, RUN, SPENT, journal_path
from sweeps.search.journal import Ending, Journal, failed, open_storage
from tests.helpers.files import files_limited_to
from tests.helpers.trials import begin, do, search

LEVELS = tuple("abc")
KILLED = -signal.SIGKILL
IS_DOOMED = []  # not empty in a process that is killed while it draws
GRID = factorial(
    {name: setting(name, {"objective.pixel_weight": number / 10}) for number, name in enumerate(LEVELS)},
    {name: setting(name, {"optimizer.peak_lr": 1e-3 + number / 1e4}) for number, name in enumerate(LEVELS)},
    names=("weight", "rate"),
)


def killed_in(target, *arguments):
    """Call a function in a process of its own, in which it is killed."""
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == KILLED


def die(config):
    if IS_DOOMED:
        os.kill(os.getpid(), signal.SIGKILL)
    return config


def draw_and_die(journal):
    IS_DOOMED.append(True)
    journal.ask()


class FatalDict(dict):
    """Kills the process that writes it as JSON."""

    def items(self):
        os.kill(os.getpid(), signal.SIGKILL)


def ask_all(one, runs_dir, count):
    """Ask for trials until there is none, as a worker does that does its trials at once."""
    journal = Journal(one, runs_dir)
    while (task := journal.ask()) is not None:
        do(runs_dir, task, content_loss=float(task.trial))
        journal.settle()
        count.append(task.trial)


def test_the_first_trial_is_the_baseline(tiny, tmp_path):
    one = search(tiny)
    task = Journal(one, tmp_path).ask()
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
    trials = Journal(one, tmp_path).trials
    assert [trial.number for trial in trials] == list(range(8))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len({trial.user_attrs[RUN] for trial in trials}) == 8
    assert len(list(tmp_path.glob("v*/attempts/*"))) == 8


def test_a_finite_space_ends_with_its_points(tiny, tmp_path):
    drawn = []
    ask_all(search(tiny, design=GRID, trials=30), tmp_path, drawn)
    assert drawn == list(range(9))


def test_more_trials_continue_a_search(tiny, tmp_path):
    drawn = []
    ask_all(search(tiny, trials=2), tmp_path, drawn)
    ask_all(search(tiny, trials=5), tmp_path, drawn)
    assert drawn == [0, 1, 2, 3, 4]


def test_a_trial_whose_worker_died_while_it_drew_is_drawn_again(tiny, tmp_path):
    one = search(tiny, trials=2)
    Journal(one, tmp_path).study.ask()  # and killed
    journal = Journal(one, tmp_path)
    assert journal.num_new(journal.trials) == 2
    assert [journal.ask().trial for _ in range(2)] == [0, 1]
    assert journal.ask() is None


def test_an_unfinished_trial_keeps_its_run(tiny, tmp_path):
    one = search(tiny, trials=1)
    task = Journal(one, tmp_path).ask()
    again = Journal(one, tmp_path)
    assert again.tasks(again.settle()) == [task]
    assert again.ask() is None


def test_a_run_that_another_sweep_has_done_is_told(tiny, tmp_path):
    one = search(tiny, trials=1, metrics=["content_loss", "train_flops"])
    task = Journal(one, tmp_path).ask()
    do(tmp_path, task, content_loss=2.5, train_flops=123)
    (trial,) = Journal(one, tmp_path).settle()
    assert (trial.state, trial.values) == (TrialState.COMPLETE, [2.5, 123.0])
    assert trial.user_attrs[SPENT]["samples"] == 16
    assert trial.user_attrs[SPENT]["flops"] == 123


def test_the_curve_of_a_run_of_another_study_is_recorded(tiny, tmp_path):
    one = search(tiny, trials=1)
    rows = [
        {"step": step, "samples": 8 * step, "train_flops": step, "seconds": 1.0, "held_out_caption_loss": 5.0 - step}
        for step in range(3)
    ]
    do(tmp_path, Journal(one, tmp_path).ask(), content_loss=2.5, rows=rows)
    (trial,) = Journal(one, tmp_path).settle()
    assert trial.intermediate_values == {1: 3.0}, "the curve has the points 0 and 1, after the last step"


def test_a_journal_that_is_only_read_stays_as_it_is(tiny, tmp_path):
    one = search(tiny, trials=2)
    do(tmp_path, Journal(one, tmp_path).ask(), content_loss=2.5)
    before = journal_path(tmp_path, "a_search").read_bytes()
    journal = Journal(one, tmp_path, is_read_only=True)
    assert [trial.state for trial in journal.settle()] == [TrialState.RUNNING]
    journal.show_winners(["a run"])
    assert journal_path(tmp_path, "a_search").read_bytes() == before
    assert os.listdir(tmp_path / "searches") == ["a_search.journal"]


@pytest.mark.parametrize(
    ("cause", "state", "num_left"), [("not finite", TrialState.PRUNED, 0), ("bug", TrialState.FAIL, 1)]
)
def test_a_run_that_diverges_is_a_result_and_one_that_fails_is_not(tiny, tmp_path, cause, state, num_left):
    one = search(tiny, trials=1)
    task = Journal(one, tmp_path).ask()
    with begin(tmp_path, task) as attempt:
        attempt.fail(Failure(cause, "a test"), "")
    journal = Journal(one, tmp_path)
    (trial,) = journal.settle()
    assert (trial.state, trial.user_attrs[NOTE]) == (state, f"{cause}: a test")
    assert journal.num_new([trial]) == num_left


def test_a_launch_whose_trials_fail_ends_and_the_next_one_goes_on(tiny, tmp_path):
    journal = Journal(search(tiny), tmp_path)
    for number in range(MAX_FAILED):
        assert journal.ask().trial == number
        journal.tell(journal.trials[number], Ending(TrialState.FAIL))
    assert journal.ask() is None
    assert len({trial.user_attrs[RUN] for trial in journal.trials}) == MAX_FAILED, "no failed point is drawn again"
    assert Journal(search(tiny), tmp_path, failed_before=range(MAX_FAILED)).ask().trial == MAX_FAILED


def test_a_point_that_failed_in_an_earlier_launch_is_drawn_again_in_a_finite_space(tiny, tmp_path):
    one = search(tiny, design=GRID, trials=9)
    journal = Journal(one, tmp_path)
    lost = journal.ask()
    with begin(tmp_path, lost) as attempt:
        attempt.fail(Failure("bug", "a test"), "")
    drawn = []
    ask_all(one, tmp_path, drawn)
    assert drawn == list(range(1, 9)), "this launch tries no point twice"
    journal = Journal(one, tmp_path)
    assert journal.num_new(journal.settle()) == 0
    journal = Journal(one, tmp_path, failed_before=failed(journal.trials))
    again = journal.ask()
    assert (again.trial, again.name, again.after) == (9, lost.name, 1)
    do(tmp_path, again, content_loss=1.0)
    assert [trial.state.name for trial in journal.settle()] == ["FAIL"] + ["COMPLETE"] * 9
    assert journal.ask() is None


def test_a_result_without_the_metric_is_a_failure(tiny, tmp_path):
    one = search(tiny, trials=1)
    do(tmp_path, Journal(one, tmp_path).ask(), caption_loss=2.5)
    (trial,) = Journal(one, tmp_path).settle()
    assert (trial.state, trial.user_attrs[NOTE]) == (TrialState.FAIL, "its run has no content_loss")


def test_two_processes_that_tell_one_trial_do_not_quarrel(tiny, tmp_path):
    one = search(tiny, trials=1)
    journal = Journal(one, tmp_path)
    journal.ask()
    trial = journal.trials[0]
    journal.tell(trial, Ending(TrialState.PRUNED))
    Journal(one, tmp_path).tell(trial, Ending(TrialState.COMPLETE, [1.0]))
    assert journal.trials[0].state == TrialState.PRUNED


def ask_for_all(journal):
    while journal.ask() is not None:
        pass


def test_a_full_disk_loses_no_trial(tiny, tmp_path):
    """The last line is cut off, wherever the disk was full."""
    one, path = search(tiny, trials=9), journal_path(tmp_path, "a_search")
    do(tmp_path, Journal(one, tmp_path).ask(), content_loss=1.0)
    for num_bytes in (1, 30, 100, 500):
        journal, size = Journal(one, tmp_path), path.stat().st_size
        with files_limited_to(size + num_bytes), pytest.raises(OSError, match=r"No space left|File too large"):
            ask_for_all(journal)
        assert path.stat().st_size == size + num_bytes
        assert Journal(one, tmp_path, is_read_only=True).trials == Journal(one, tmp_path).trials
    drawn = []
    ask_all(one, tmp_path, drawn)
    journal = Journal(one, tmp_path)
    for task in journal.tasks(journal.trials):
        do(tmp_path, task, content_loss=float(task.trial))
    assert [trial.state for trial in journal.settle()] == [TrialState.COMPLETE] * 9
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


@pytest.mark.parametrize("content", [b"not json\n", b'{"op_code": 99}\n', b'[1]\n{"op_code":0}\n', b"\xff\xfe\n"])
def test_a_corrupt_journal_is_one_sentence(tiny, tmp_path, content):
    one, path = search(tiny), journal_path(tmp_path, "a_search")
    Journal(one, tmp_path).ask()
    path.write_bytes(path.read_bytes()[:200] + content)
    with pytest.raises(UsageError, match=rf"^{path} is not a journal of Optuna, or it is corrupt \(.*\); restore it"):
        Journal(one, tmp_path)


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
    Journal(search(tiny), tmp_path)
    base = replace(tiny, budget=change.pop("budget", tiny.budget))
    with pytest.raises(UsageError, match="is of another search") as caught:
        Journal(search(base, **change), tmp_path)
    assert what in str(caught.value)
    assert "move the journal away" in str(caught.value)


def test_trials_of_another_process_are_left_to_it(tiny, tmp_path):
    one = search(tiny, trials=1)
    task = Journal(one, tmp_path).ask()
    with begin(tmp_path, task):
        assert Journal(one, tmp_path).settle()[0].state == TrialState.RUNNING
    assert (tmp_path / "index" / Entry("idle", 1).name(task.name)).exists()
    assert Journal(one, tmp_path).settle()[0].state == TrialState.RUNNING, "it was interrupted, and can be resumed"


def test_optuna_reads_the_journal(tiny, tmp_path):
    """And so does its dashboard."""
    one = search(tiny, trials=3)
    ask_all(one, tmp_path, [])
    backend = optuna.storages.journal.JournalFileBackend(str(journal_path(tmp_path, "a_search")))
    study = optuna.load_study(study_name="a_search", storage=optuna.storages.JournalStorage(backend))
    assert study.best_value == 0.0
    assert json.loads(json.dumps(study.user_attrs))["definition"] == one.definition()
    assert os.listdir(tmp_path / "searches") == ["a_search.journal"]


@pytest.mark.filterwarnings("ignore:The value of `grace_period` might be too small")
def test_the_lock_of_a_process_that_was_killed_while_it_drew_is_broken(tiny, tmp_path):
    levels = {"a": Arm(label="a", change=die), "b": setting("b", {"objective.pixel_weight": 0.0})}
    one = search(tiny, design=factorial(levels, names=("x",)), trials=2)
    killed_in(draw_and_die, Journal(one, tmp_path))
    assert list((tmp_path / "searches").glob("*.ask.lock")), "it held the lock"
    journal = Journal(one, tmp_path, ask_seconds=1)
    assert [journal.ask().trial for _ in range(2)] == [0, 1], "the first one was half drawn"
    assert journal.ask() is None
    assert not list((tmp_path / "searches").glob("*.lock"))


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:The value of `grace_period` might be too small")
@pytest.mark.parametrize("is_absolute", [True, False])
def test_the_lock_of_a_process_that_was_killed_while_it_wrote_a_line_is_broken(tmp_path, monkeypatch, is_absolute):
    """Optuna's default lock is never broken in a folder that is given by a relative path, as ``runs`` is."""
    monkeypatch.chdir(tmp_path)
    path = (tmp_path if is_absolute else Path()) / "searches" / "a.journal"
    path.parent.mkdir()
    study = optuna.create_study(storage=open_storage(path), study_name="a")
    killed_in(study.set_user_attr, "key", FatalDict(key=1))
    assert sorted(os.listdir(path.parent)) == ["a.journal", "a.journal.lock"], "it held the lock"
    again = optuna.load_study(study_name="a", storage=open_storage(path, line_seconds=1))
    again.set_user_attr("key", 2)
    assert study.user_attrs == {"key": 2}
    assert os.listdir(path.parent) == ["a.journal"]
