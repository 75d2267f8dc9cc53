"""Trials as files, and in displays."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.ablations.study import WINNER
from aimv2.analysis.evidence.searches import State
from aimv2.base.errors import UsageError
from aimv2.base.files import write_json
from aimv2.runs.record import RUN_NAME
from aimv2.sweeps.search.folder import SearchFolder
from aimv2.sweeps.search.trials import ARM, CURVE, DRAWN, ENDED, Trial, file_of, read_trials, trials_of
from aimv2.sweeps.search.work import SearchTasks
from tests.helpers.trials import begin, do, end_trial, search, settle


def test_a_sweep_without_a_search_has_no_trials(tmp_path):
    assert trials_of(tmp_path, "prefix_ratio").described == ""
    assert not list(tmp_path.iterdir())


def test_trials_are_counted_and_their_runs_listed(tiny, tmp_path):
    one = search(tiny, trials=4)
    for _ in range(2):
        do(tmp_path, SearchFolder(one, tmp_path).ask(), content_loss=1.0)
    folder = SearchFolder(one, tmp_path)
    settle(folder)
    running, waiting = folder.ask(), folder.ask()
    with begin(tmp_path, running):
        found = trials_of(tmp_path, one.name)
        assert found.described == "2 finished, 2 running"
        assert [(cell.arm, cell.seed) for cell in found.cells] == [(ARM, 0), (ARM, 1), (ARM, 2)]
        assert found.cells[-1].name == running.name
        assert found.runs == {cell.name for cell in found.cells} | {waiting.name}
    with begin(tmp_path, waiting):
        assert len(trials_of(tmp_path, one.name).cells) == 4, "the trials are read again"


def test_another_search_at_the_same_relative_path_is_another_one(tiny, tmp_path, monkeypatch):
    one = search(tiny, trials=4)
    for number in (2, 1):
        (own := tmp_path / str(number)).mkdir()
        monkeypatch.chdir(own)
        for _ in range(number):
            do(Path(), SearchFolder(one, Path()).ask(), content_loss=1.0)
        settle(SearchFolder(one, Path()))
        assert trials_of(Path(), one.name).described == f"{number} finished"


def test_the_runs_that_confirm_the_winner_are_listed(tiny, tmp_path):
    one = search(tiny, trials=2)
    for loss in (2.0, 1.0):
        do(tmp_path, SearchFolder(one, tmp_path).ask(), content_loss=loss)
    free = SearchTasks(SearchFolder(one, tmp_path), []).open_tasks().free
    assert [cell.arm for cell in trials_of(tmp_path, one.name).cells] == [ARM, ARM], "none has started"
    do(tmp_path, free[1], content_loss=1.0)
    cells = trials_of(tmp_path, one.name).cells
    assert [(cell.arm, cell.seed, cell.name) for cell in cells[2:]] == [(WINNER, 1, free[1].name)]


def test_a_trial_that_ended_without_an_end_is_one_sentence(tiny, tmp_path):
    """Nobody could record its end any more."""
    end_trial(SearchFolder(search(tiny), tmp_path), "running")
    with pytest.raises(UsageError, match=r"/0000-end.json has a trial that is running; restore the file, or move"):
        trials_of(tmp_path, "a_search")


def test_failed_trials_are_counted(tiny, tmp_path):
    folder = SearchFolder(search(tiny), tmp_path)
    end_trial(folder, "failed")
    end_trial(folder, "pruned")
    found = trials_of(tmp_path, "a_search")
    assert (found.described, found.num_failed) == ("1 pruned, 1 failed", 1)


def test_displays_load_no_optuna():
    code = "import sys, aimv2.sweeps.search.trials; sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


values = st.floats(allow_nan=False)
json_values = st.recursive(
    st.none() | st.booleans() | values | st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)
)
trials = st.builds(
    Trial,
    number=st.just(0),
    run=st.from_regex(RUN_NAME, fullmatch=True),
    params=st.dictionaries(st.text(), values | st.text()),
    after=st.integers(0),
    attributes=st.dictionaries(st.text(), values | st.text()),
    curve=st.dictionaries(st.integers(1), values),
    values=st.lists(values).map(tuple),
    note=st.text(),
)


@pytest.mark.exhaustive
@given(drawn=trials, curve=st.none() | trials, ended=st.none() | trials, state=st.sampled_from(get_args(State)))
def test_the_last_file_of_a_trial_is_the_trial(tmp_path_factory, drawn, curve, ended, state):
    folder, known = tmp_path_factory.mktemp("search"), {}
    ended = None if ended is None or state == "running" else replace(ended, state=state)
    for kind, trial in ((DRAWN, drawn), (CURVE, curve), (ENDED, ended)):
        if trial is not None:
            write_json(file_of(folder, 0, kind), asdict(trial))
    assert read_trials(folder, known) == [ended or curve or drawn]
    file_of(folder, 0, ENDED if ended else DRAWN).write_text("it never changes, and is read once")
    assert read_trials(folder, known) == [ended or curve or drawn]


def test_a_curve_that_cannot_be_read_counts_as_none(tiny, tmp_path):
    """It is replaced while others read it, which on NFS may fail."""
    folder = SearchFolder(search(tiny), tmp_path)
    folder.ask()
    drawn = folder.trials
    file_of(folder.path, 0, CURVE).write_text("")
    assert read_trials(folder.path, {}) == drawn


@pytest.mark.exhaustive
@given(garbage=json_values)
def test_a_file_that_is_no_trial_is_one_sentence(tmp_path_factory, garbage):
    folder = tmp_path_factory.mktemp("search")
    (path := file_of(folder, 0, DRAWN)).write_text(json.dumps(garbage))
    with pytest.raises(UsageError) as caught:
        read_trials(folder, {})
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith(f"; restore the file, or move {folder} away to search again")
    assert len(str(caught.value).splitlines()) == 1
