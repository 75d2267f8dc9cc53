"""The outcome of a search: its front, the winner, and the file for the report."""

import json

import pytest
from rich.console import Console

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import read_request
from aimv2.ablations.study import WINNER
from aimv2.base.files import read_json
from aimv2.sweeps.search.config import MAX_FAILED
from aimv2.sweeps.search.folder import SearchFolder
from aimv2.sweeps.search.outcome import finish, importances, is_complete, print_outcome, to_json, winner, winner_cells
from tests.helpers.trials import do, end_trial, requested, search, settle


def test_only_finished_trials_win(tiny, tmp_path):
    one = search(tiny, trials=3)
    folder = SearchFolder(one, tmp_path)
    assert winner(folder, []) is None
    assert winner_cells(folder, []) == []
    for state, *loss in (("failed",), ("pruned",), ("finished", 2.0)):
        end_trial(folder, state, None, *loss)
    assert winner(folder, folder.trials).number == 2
    assert [(cell.arm, cell.seed) for cell in winner_cells(folder, folder.trials)] == [(WINNER, 0), (WINNER, 1)]


def test_a_baseline_that_wins_is_not_confirmed_against_itself(tiny, tmp_path):
    one = search(tiny, trials=1)
    do(tmp_path, SearchFolder(one, tmp_path).ask(), content_loss=1.0)
    folder = SearchFolder(one, tmp_path)
    trials = settle(folder)
    assert winner(folder, trials).number == 0
    assert winner_cells(folder, trials) == []
    console = Console(record=True, width=200)
    assert finish(folder, requested(one), console) == []
    assert "best of 1 finished: trial 0, the baseline itself, so there is nothing to confirm" in console.export_text()


@pytest.fixture
def folder(tiny, tmp_path):
    """A search by two metrics: three finished trials, of which two are on the front, one that was pruned, and one that
    failed."""
    one = search(tiny, trials=5, metrics=["content_loss", "train_flops"], name="loss_weight_test_search")
    for loss, flops in ((3.0, 10), (1.0, 30), (4.0, 20)):
        do(tmp_path, SearchFolder(one, tmp_path).ask(), content_loss=loss, train_flops=flops)
        settle(SearchFolder(one, tmp_path))
    found = SearchFolder(one, tmp_path)
    end_trial(found, "pruned", note="not finite: a test")
    end_trial(found, "failed", note="bug: a test")
    return found


def test_the_file_has_what_the_report_says(folder):
    found = to_json(folder, folder.trials)
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
    found = SearchFolder(one, tmp_path)
    task = found.ask()
    found.report(task, {"step": 2, "held_out_caption_loss": 2.5})
    assert found.trials[0].curve == {1: -2.5}, "where a larger value is better"
    end_trial(found, "pruned", task)
    outcome = to_json(found, found.trials)
    assert outcome["trials"][0]["curve"] == [[16, 2.5]]
    assert outcome["curve"] == "held_out_caption_loss"


def test_the_outcome_is_printed_with_the_notes_of_trials(folder):
    console = Console(record=True, width=300)
    print_outcome(folder, folder.trials, console)
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
    found, console = SearchFolder(search(tiny), tmp_path), Console(record=True, width=200)
    for _ in range(MAX_FAILED):
        end_trial(found, "failed")
    print_outcome(found, found.trials, console)
    printed = console.export_text()
    assert f"{MAX_FAILED} trials have failed, and 0 of 24 are finished or pruned; fix the cause, and launch" in printed
    assert not is_complete(found)
    assert "no trial has finished, so there is no winner" in printed


def test_finishing_writes_the_file_and_requests_both_arms(folder, tmp_path):
    cells = finish(folder, requested(folder.search), Console(quiet=True))
    assert {cell.arm for cell in cells} == {WINNER}
    assert read_json(tmp_path / "searches" / "loss_weight_test_search.json")["winner"] == 1
    request = read_request(tmp_path, requested(folder.search).folder, STUDIES)
    weight = folder.trials[1].params["objective.pixel_weight"]
    assert request.study.label(WINNER) == f"trial 1: objective.pixel_weight={weight:.4g}"
    assert {cell.config.objective.pixel_weight for cell in request.cells if cell.arm == WINNER} == {weight}
    assert {cell.config.evaluation.split for cell in request.cells} == {"test"}


def test_the_factor_that_matters_is_the_important_one_and_equal_values_have_none(tiny, tmp_path):
    for is_equal in (False, True):
        one, folder = search(tiny, sweep="norm_ffn", trials=4), tmp_path / str(is_equal)
        folder.mkdir()
        for _ in range(4):
            opened = SearchFolder(one, folder)
            task = opened.ask()
            loss = float(is_equal or opened.trials[task.trial].params["norm"] == "rms")
            do(folder, task, **dict.fromkeys(one.metrics, loss))
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
    assert is_complete(folder) == expected
