"""Trials in displays."""

from pathlib import Path

import pytest
from optuna.trial import TrialState

from ablations.study import WINNER
from aimv2.base.errors import UsageError
from sweeps.search.config import journal_path
from sweeps.search.journal import Ending, Journal
from sweeps.search.trials import ARM, trials_of
from sweeps.search.work import SearchTasks
from tests.helpers.trials import begin, do, search


def test_a_sweep_without_a_search_has_no_trials(tmp_path):
    assert trials_of(tmp_path, "prefix_ratio").described == ""
    assert not list(tmp_path.iterdir())


def test_trials_are_counted_and_their_runs_listed(tiny, tmp_path):
    one = search(tiny, trials=4)
    for _ in range(2):
        do(tmp_path, Journal(one, tmp_path).ask(), content_loss=1.0)
    journal = Journal(one, tmp_path)
    journal.settle()
    running, waiting = journal.ask(), journal.ask()
    with begin(tmp_path, running):
        found = trials_of(tmp_path, one.name)
        assert found.described == "2 finished, 2 running"
        assert [(cell.arm, cell.seed) for cell in found.cells] == [(ARM, 0), (ARM, 1), (ARM, 2)]
        assert found.cells[-1].name == running.name
        assert found.runs == {cell.name for cell in found.cells} | {waiting.name}
    with begin(tmp_path, waiting):
        assert len(trials_of(tmp_path, one.name).cells) == 4, "the journal is read again"


def test_another_journal_at_the_same_relative_path_is_another_one(tiny, tmp_path, monkeypatch):
    one = search(tiny, trials=4)
    for number in (2, 1):
        (folder := tmp_path / str(number)).mkdir()
        monkeypatch.chdir(folder)
        for _ in range(number):
            do(Path(), Journal(one, Path()).ask(), content_loss=1.0)
        Journal(one, Path()).settle()
        assert trials_of(Path(), one.name).described == f"{number} finished"


def test_the_runs_that_confirm_the_winner_are_listed(tiny, tmp_path):
    one = search(tiny, trials=2)
    for loss in (2.0, 1.0):
        do(tmp_path, Journal(one, tmp_path).ask(), content_loss=loss)
    free = SearchTasks(one, [], tmp_path).open_tasks().free
    assert [cell.arm for cell in trials_of(tmp_path, one.name).cells] == [ARM, ARM], "none has started"
    do(tmp_path, free[1], content_loss=1.0)
    cells = trials_of(tmp_path, one.name).cells
    assert [(cell.arm, cell.seed, cell.name) for cell in cells[2:]] == [(WINNER, 1, free[1].name)]


def test_a_journal_without_a_study_has_no_trials_yet(tmp_path):
    """Optuna makes the file first."""
    path = journal_path(tmp_path, "a_search")
    path.parent.mkdir()
    path.touch()
    assert trials_of(tmp_path, "a_search").described == ""


def test_a_corrupt_journal_is_one_sentence(tiny, tmp_path):
    Journal(search(tiny), tmp_path)
    path = journal_path(tmp_path, "a_search")
    path.write_text("broken\n" + path.read_text())
    with pytest.raises(UsageError, match="is not a journal of Optuna"):
        trials_of(tmp_path, "a_search")


def told(journal, state, **more):
    """Ask for a trial, tell how it ended, and return its run."""
    task = journal.ask()
    journal.tell(journal.trials[task.trial], Ending(state, **more))
    return task.name


def test_failed_trials_are_counted(tiny, tmp_path):
    journal = Journal(search(tiny), tmp_path)
    told(journal, TrialState.FAIL)
    told(journal, TrialState.PRUNED)
    found = trials_of(tmp_path, "a_search")
    assert (found.described, found.num_failed) == ("1 pruned, 1 failed", 1)
