"""The outcome of a search: its front, the winner, and the file for the report."""

import json
from itertools import product
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState
from rich.console import Console

from ablations.catalogue import STUDIES
from ablations.request import read_request
from ablations.study import WINNER
from aimv2.base.files import read_json
from sweeps.search.config import MAX_FAILED
from sweeps.search.journal import Journal
from sweeps.search.names import STATES
from sweeps.search.outcome import finish, front, importances, is_complete, print_trials, to_json, winner, winner_cells
from tests.helpers.trials import do, requested, search

VALUES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12)
DIRECTIONS = list(product(["minimize", "maximize"], repeat=2))


def finished(values):
    return [
        SimpleNamespace(number=n, state=TrialState.COMPLETE, values=list(map(float, v))) for n, v in enumerate(values)
    ]


@given(VALUES, st.sampled_from(DIRECTIONS))
def test_the_front_is_what_nothing_dominates(values, directions):
    """By definition: of any other trial, one value is worse, or all are equal and the number is larger."""
    signs = [1 if one == "minimize" else -1 for one in directions]
    expected = []
    for number, own in enumerate(values):
        others = [other for place, other in enumerate(values) if place != number]
        cost = [sign * value for sign, value in zip(signs, own, strict=True)]
        other_costs = [[sign * value for sign, value in zip(signs, other, strict=True)] for other in others]
        is_beaten = any(other[0] <= cost[0] and other[1] <= cost[1] and other != cost for other in other_costs)
        is_repeated = own in values[:number]
        if not is_beaten and not is_repeated:
            expected.append(number)
    assert [trial.number for trial in front(finished(values), directions)] == expected


@given(st.lists(st.integers(0, 9), min_size=1), st.sampled_from(["minimize", "maximize"]))
def test_the_front_of_one_metric_is_the_best_trial(values, direction):
    best = min(values) if direction == "minimize" else max(values)
    (found,) = front(finished([(value,) for value in values]), [direction])
    assert found.number == values.index(best)


def test_only_finished_trials_win(tiny, tmp_path):
    one = search(tiny, trials=3)
    journal = Journal(one, tmp_path)
    assert winner(one, journal.trials) is None
    assert winner_cells(one, journal.trials) == []
    for state, loss in ((TrialState.FAIL, None), (TrialState.PRUNED, None), (TrialState.COMPLETE, [2.0])):
        number = journal.ask().trial
        journal.tell(journal.trials[number], state, loss)
    assert winner(one, journal.trials).number == 2
    assert [(cell.arm, cell.seed) for cell in winner_cells(one, journal.trials)] == [(WINNER, 0), (WINNER, 1)]


def test_a_baseline_that_wins_is_not_confirmed_against_itself(tiny, tmp_path):
    one = search(tiny, trials=1)
    do(tmp_path, Journal(one, tmp_path).ask(), content_loss=1.0)
    journal = Journal(one, tmp_path)
    assert winner(one, journal.settle()).number == 0
    assert winner_cells(one, journal.trials) == []
    console = Console(record=True, width=200)
    plan = finish(journal, requested(one), console)
    assert {cell.arm for cell in plan.cells} == {"alpha_04"}
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
    found.tell(found.trials[3], TrialState.PRUNED)
    found.ask()
    found.tell(found.trials[4], TrialState.FAIL, note="bug: a test")
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
    found.tell(found.trials[0], TrialState.PRUNED)
    outcome = to_json(found, found.trials)
    assert outcome["trials"][0]["curve"] == [[16, 2.5]]
    assert outcome["curve"] == "held_out_caption_loss"


def test_trials_are_printed_best_first_with_their_notes(journal):
    console = Console(record=True, width=200)
    print_trials(journal.search, journal.trials, console)
    printed = console.export_text()
    rows = [line.split("│") for line in printed.splitlines() if line.startswith("│")]
    assert [row[1].strip() for row in rows] == ["1", "0", "2", "3", "4"]
    assert [row[2].strip() for row in rows] == ["finished", "finished", "finished", "pruned", "failed"]
    assert "Pareto front of content_loss and train_flops: trials 0, 1" in printed
    assert "best of 3 finished: trial 1, objective.pixel_weight=" in printed
    assert "on seeds 0, 1, which no trial has seen" in printed
    assert "trial 4: bug: a test; python sweeps/manage.py logs v2-" in printed


def test_a_search_without_a_finished_trial_says_so(tiny, tmp_path):
    found, console = Journal(search(tiny), tmp_path), Console(record=True, width=200)
    for _ in range(MAX_FAILED):
        number = found.ask().trial
        found.tell(found.trials[number], TrialState.FAIL)
    print_trials(found.search, found.trials, console)
    printed = console.export_text()
    assert f"{MAX_FAILED} trials have failed, and 0 of 24 are finished or pruned; fix the cause, and launch" in printed
    assert not is_complete(found.search, found.trials)
    assert "no trial has finished, so there is no winner" in printed


def test_finishing_writes_the_file_and_requests_both_arms(journal, tmp_path):
    plan = finish(journal, requested(journal.search), Console(quiet=True))
    assert read_json(tmp_path / "searches" / "loss_weight_test_search.json")["winner"] == 1
    request = read_request(tmp_path, plan.title, STUDIES)
    weight = journal.trials[1].params["objective.pixel_weight"]
    assert request.study.label(WINNER) == f"trial 1: objective.pixel_weight={weight:.4g}"
    assert {cell.config.objective.pixel_weight for cell in request.cells if cell.arm == WINNER} == {weight}
    assert {cell.config.evaluation.split for cell in request.cells} == {"test"}


def test_the_factor_that_matters_is_the_important_one(tiny, tmp_path):
    one = search(tiny, sweep="norm_ffn", trials=4)
    for _ in range(4):
        task = Journal(one, tmp_path).ask()
        norm = Journal(one, tmp_path).trials[task.trial].params["norm"]
        do(tmp_path, task, **{metric: float(norm == "rms") for metric in one.metrics})
    journal = Journal(one, tmp_path)
    journal.settle()
    found = importances(journal.study)
    assert found["norm"] > 0.9
    assert sum(found.values()) == pytest.approx(1.0)


def test_equal_values_have_no_important_factor(tiny, tmp_path):
    one = search(tiny, sweep="norm_ffn", trials=4)
    for _ in range(4):
        do(tmp_path, Journal(one, tmp_path).ask(), **dict.fromkeys(one.metrics, 1.0))
    journal = Journal(one, tmp_path)
    journal.settle()
    assert importances(journal.study) == {}


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
        journal.tell(journal.trials[number], TrialState[told], [1.0] if state == "finished" else None)
    assert is_complete(one, journal.trials) == expected
