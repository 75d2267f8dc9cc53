"""Searches as they are typed, interrupted and killed."""

import json
import os
import re
import signal
import time

import pytest

from aimv2.sweeps import launch
from aimv2.sweeps.parse import parse
from aimv2.sweeps.search.trials import SearchFolder, folder_of, read_trials
from aimv2.sweeps.search.work import winner_cells
from tests.helpers.evidence import write_run
from tests.helpers.sweeps import small_sweep
from tests.helpers.trials import do, end_trial

ASK = (
    *("search=optuna", "search.trials=6", "search.sampler=random", "sweep.seeds=1", "evaluation.curve_points=5"),
    "data.sources=[openmoji_scenes,fontawesome_scenes]",
)
NAME = "loss_weight_search"


def words(cache_dir, *more):
    replaced = {word.partition("=")[0] for word in more}
    asked = [word for word in ASK if word.partition("=")[0] not in replaced]
    return small_sweep(cache_dir, *asked, *more, sweep="loss_weight")


@pytest.fixture
def words_of():
    return words


def trials_in(tmp_path):
    return read_trials(folder_of(tmp_path / "runs", NAME))


def wait_for(process, tmp_path, pattern):
    """Wait until files of this pattern exist; return them."""
    while not (found := list(tmp_path.glob(pattern))):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    return found


@pytest.mark.exhaustive
def test_a_search_ends_with_a_confirmed_winner_and_its_report(here, tmp_path):
    status, out, err = here()
    assert status == 0, out + err
    trials = trials_in(tmp_path)
    assert [trial.number for trial in trials] == list(range(6))
    assert {trial.state for trial in trials} <= {"finished", "pruned"}
    assert re.search(r"best of \d finished: trial \d", out)
    report = tmp_path / "reports" / NAME / "report.md"
    assert f"report: reports/{NAME}/report.md" in out
    assert report.exists()
    assert json.loads((tmp_path / "runs" / "searches" / f"{NAME}.json").read_text())["study"] == "loss_weight"
    num_attempts = len(list(tmp_path.glob("runs/v2-*/attempts/*")))
    status, out, _ = here("search.trials=6")
    assert status == 0
    assert len(list(tmp_path.glob("runs/v2-*/attempts/*"))) == num_attempts, "nothing is done twice"


@pytest.mark.exhaustive
def test_a_search_whose_trials_fail_is_a_failure_until_they_are_replaced(here, cache_dir, tmp_path):
    """No run trains: each was done before, and those of the first points lack the metric that decides."""
    parsed, runs_dir = parse(words(cache_dir, "executor=debug")), tmp_path / "runs"
    (tmp_path / "before").mkdir()
    folder = SearchFolder(parsed.search, tmp_path / "before")
    lost = list(iter(folder.ask, None))
    folder = SearchFolder(parsed.search, tmp_path / "before", failed_before=range(len(lost)))
    for task in lost:
        do(runs_dir, task, caption_loss=1.0)
        end_trial(folder, "failed", task)
    again, good = folder.ask(), folder.ask()
    assert again.name == lost[0].name, "the baseline"
    do(runs_dir, good, content_loss=1.0)
    end_trial(folder, "finished", good, 1.0)
    for cell in [*parsed.request.cells, *winner_cells(folder.search, folder.winner(folder.trials))]:
        write_run(cell, runs_dir, 3.0)

    status, out, err = here()
    assert status == 1, out + err
    assert "6 trials have failed, and 0 of 6 are finished or pruned" in out
    assert "no trial has finished, so there is no winner" in out
    report = tmp_path / "reports" / NAME / "report.md"
    assert "It has no winner, since no trial has finished." in report.read_text()
    status, out, err = here("search.trials=1")
    assert status == 0, out + err
    assert [trial.state for trial in trials_in(tmp_path)] == ["failed"] * 7 + ["finished"]
    assert "best of 1 finished: trial 7, " in out


@pytest.mark.exhaustive
def test_a_search_that_is_interrupted_and_killed_ends_with_exactly_its_trials(started, tmp_path):
    process = started("executor.workers=2")
    wait_for(process, tmp_path, "runs/v2-*/attempts/0001/metrics.jsonl")
    os.kill(process.pid, signal.SIGINT)
    out, _ = process.communicate()
    assert process.returncode == 130, out
    process = started("executor.workers=2")
    holders = wait_for(process, tmp_path, "runs/launches/*/workers/*/holder.json")
    os.kill(json.loads(holders[0].read_text())["pid"], signal.SIGKILL)
    wait_for(process, tmp_path, "runs/v2-*/result.json")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for path in tmp_path.glob("runs/launches/*/workers/*/holder.json"):  # workers are no children of the shell
        try:
            os.kill(json.loads(path.read_text())["pid"], signal.SIGKILL)
        except ProcessLookupError:
            continue
    process = started("executor.workers=2")
    out, _ = process.communicate()
    assert process.returncode == 0, out
    trials = trials_in(tmp_path)
    assert [trial.number for trial in trials] == list(range(6))
    assert {trial.state for trial in trials} <= {"finished", "pruned"}
    assert len({trial.run for trial in trials}) == 6


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("search.sampler=grid", "search.sampler: Input should be 'tpe', "),
        ("search.metric=recall", "unknown search.metric 'recall'. Allowed: "),
        ("search.trails=3", "Did you mean 'search.trials'?"),
        ("search=optun", "unknown search 'optun'. Did you mean 'optuna'?"),
        ("sweep.arms=[alpha_04]", "search=optuna searches all factors of sweep=loss_weight; leave out sweep.arms="),
        ("objective.pixel_weight=3", "has no effect"),
    ],
)
def test_bad_input_is_refused_in_one_sentence_and_nothing_is_written(here, tmp_path, more, message):
    status, out, err = here(more)
    assert status == 2, out
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_key_of_a_search_without_a_search_is_refused(cache_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert launch.main(small_sweep(cache_dir, "search.trials=3", sweep="loss_weight")) == 2
    assert "search.trials is a key of a search; type search=optuna too" in capsys.readouterr().err


@pytest.mark.exhaustive
def test_a_dry_run_shows_the_search_and_writes_nothing(here, tmp_path):
    status, out, _ = here("dry_run=true")
    assert status == 0
    assert "objective.pixel_weight: 0 to 2" in out
    assert "6 trials: none yet" in out
    assert not list(tmp_path.glob("runs/*"))
