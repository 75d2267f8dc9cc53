"""The outcome of a search: its front, the winner, and the file for the report."""

import json

import pytest
from optuna.trial import TrialState
from rich.console import Console

from ablations.catalogue import STUDIES
from ablations.request import read_request
from ablations.study import WINNER
from aimv2.base.files import read_json
from sweeps.search.config import MAX_FAILED, STATES
from sweeps.search.journal import Ending, Journal
from sweeps.search.outcome import finish, importances, is_complete, print_outcome, to_json, winner, winner_cells
from tests.helpers.trials import do, requested, search


def test_only_finished_trials_win(tiny, tmp_path):
    one = search(tiny, trials=3)
    journal = Journal(one, tmp_path)
    assert winner(journal) is None
    assert winner_cells(journal) == []
    for state, loss in ((TrialState.FAIL, None), (TrialState.PRUNED, None), (TrialState.COMPLETE, [2.0])):
        number = journal.ask().trial
        journal.tell(journal.trials[number], Ending(state, loss))
    assert winner(journal).number == 2
    assert [(cell.arm, cell.seed) for cell in winner_cells(journal)] == [(WINNER, 0), (WINNER, 1)]


def test_a_baseline_that_wins_is_not_confirmed_against_itself(tiny, tmp_path):
    one = search(tiny, trials=1)
    do(tmp_path, Journal(one, tmp_path).ask(), content_loss=1.0)
    journal = Journal(one, tmp_path)
    journal.settle()
    assert winner(journal).number == 0
    assert winner_cells(journal) == []
    console = Console(record=True, width=200)
    assert finish(journal, requested(one), console) == []
    assert "best of 1 finished: trial 0, the baseline itself, so there is nothing to confirm" in console.export_text()


@pytest.fixture
def journal(tiny, tmp_path):
    """A search by two metrics: three finished trials, of which two are on the front, one that was pruned, and one that
    failed."""
    one = search(tiny, trials=5, metrics=["content_loss", "train_flops"], name="loss_weight_test_search")
    for loss, flops in ((3.0, 10), (1.0, 30), (4.0, 20)):
        do(tmp_path, Journal(one, tmp_path).ask(), content_loss=loss, train_flops=flops)
        Journal(one, tmp_path).settle()
    found = Journal(one, tmp_path)
    found.trial(found.ask().trial).set_user_attr("note", "not finite: a test")
    found.tell(found.trials[3], Ending(TrialState.PRUNED))
    found.ask()
    found.tell(found.trials[4], Ending(TrialState.FAIL, note="bug: a test"))
    return found


def test_the_file_has_what_the_report_says(journal):
    found = to_json(journal, journal.trials)
    assert json.loads(json.dumps(found)) == found
    assert (found["front"], found["winner"]) == ([0, 1], 1)
    assert [trial["state"] for trial in found["trials"]] == ["finished"] * 3 + ["pruned", "failed"]
    assert [trial["values"] for trial in found["trials"]] == [[3.0, 10.0], [1.0, 30.0], [4.0, 20.0], None, None]
    assert found["metrics"][1] == {"name": "train_flops", "direction": "minimize", "unit": "FLOPs"}
    assert found["space"] == [{"name": "objective.pixel_weight", "low": 0.0, "high": 2.0, "log": False}]
    assert [trial["flops"] for trial in found["trials"]][:3] == [10, 30, 20]
    assert {trial["budget"] for trial in found["trials"]} == {16}
    assert found["importances"] == {}, "there is one factor"
    assert found["curve"] is None, "it has none, as no trial is pruned"


def test_a_curve_is_in_samples_and_in_the_units_of_its_metric(tiny, tmp_path):
    one = search(tiny, metrics=["probe_object"])
    found = Journal(one, tmp_path)
    found.trial(found.ask().trial).report(-2.5, 1)  # the loss, where a larger value is better
    found.tell(found.trials[0], Ending(TrialState.PRUNED))
    outcome = to_json(found, found.trials)
    assert outcome["trials"][0]["curve"] == [[16, 2.5]]
    assert outcome["curve"] == "held_out_caption_loss"


def test_the_outcome_is_printed_with_the_notes_of_trials(journal):
    console = Console(record=True, width=300)
    print_outcome(journal, journal.trials, console)
    printed = console.export_text()
    assert "Pareto front of content_loss and train_flops: trials 0, 1" in printed
    assert "best of 3 finished: trial 1, objective.pixel_weight=" in printed
    assert (
        ", with content_loss 1, train_flops 30. The report compares it with the baseline on seeds 0, 1, which"
        in printed
    )
    assert "trial 3, pruned: not finite: a test; python sweeps/manage.py logs v2-" in printed
    assert "trial 4, failed: bug: a test; python sweeps/manage.py logs v2-" in printed


def test_a_search_without_a_finished_trial_says_so(tiny, tmp_path):
    found, console = Journal(search(tiny), tmp_path), Console(record=True, width=200)
    for _ in range(MAX_FAILED):
        number = found.ask().trial
        found.tell(found.trials[number], Ending(TrialState.FAIL))
    print_outcome(found, found.trials, console)
    printed = console.export_text()
    assert f"{MAX_FAILED} trials have failed, and 0 of 24 are finished or pruned; fix the cause, and launch" in printed
    assert not is_complete(found)
    assert "no trial has finished, so there is no winner" in printed


def test_finishing_writes_the_file_and_requests_both_arms(journal, tmp_path):
    cells = finish(journal, requested(journal.search), Console(quiet=True))
    assert {cell.arm for cell in cells} == {WINNER}
    assert read_json(tmp_path / "searches" / "loss_weight_test_search.json")["winner"] == 1
    request = read_request(tmp_path, requested(journal.search).folder, STUDIES)
    weight = journal.trials[1].params["objective.pixel_weight"]
    assert request.study.label(WINNER) == f"trial 1: objective.pixel_weight={weight:.4g}"
    assert {cell.config.objective.pixel_weight for cell in request.cells if cell.arm == WINNER} == {weight}
    assert {cell.config.evaluation.split for cell in request.cells} == {"test"}


def test_the_factor_that_matters_is_the_important_one_and_equal_values_have_none(tiny, tmp_path):
    for is_equal in (False, True):
        one, folder = search(tiny, sweep="norm_ffn", trials=4), tmp_path / str(is_equal)
        folder.mkdir()
        for _ in range(4):
            journal = Journal(one, folder)
            task = journal.ask()
            loss = float(is_equal or journal.trials[task.trial].params["norm"] == "rms")
            do(folder, task, **dict.fromkeys(one.metrics, loss))
        journal = Journal(one, folder)
        journal.settle()
        found = importances(journal.study)
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
    journal = Journal(one, tmp_path)
    for state in states.split():
        number = journal.ask().trial
        told = {name: key for key, name in STATES.items()}[state]
        journal.tell(journal.trials[number], Ending(TrialState[told], [1.0] if state == "finished" else None))
    assert is_complete(journal) == expected
