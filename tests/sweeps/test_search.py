"""The search as it is typed, and what it remembers."""

import subprocess
import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

from aimv2.config.arguments import checked
from aimv2.errors import UsageError
from sweeps.search import SearchConfig, ask, open_study, with_values

SEARCH = Path(__file__).parents[2] / "sweeps" / "search.py"
SMALL = (
    "budget.samples=64",
    "data.sources=[fontawesome,openmoji]",
    "evaluation.num_pairs=32",
    "evaluation.curve_pairs=16",
    "evaluation.curve_points=2",
    "evaluation.probe.epochs=1",
)


@pytest.fixture
def typed(tmp_path, cache_dir):
    def run(*more):
        name = [] if more[0].startswith("search=") else ["search=optimizer"]
        command = [sys.executable, str(SEARCH), *name, f"data.cache_dir={cache_dir}", *SMALL, *more]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=540)

    return run


@pytest.fixture
def config():
    return SearchConfig(
        metric="caption_loss",
        direction="minimize",
        trials=4,
        parameters=({"path": "optimizer.peak_lr", "low": 1e-4, "high": 1e-2, "log": True},),
    )


@pytest.mark.slow
def test_a_search_runs_its_trials_once_and_goes_on_from_there(typed, tmp_path):
    first = typed("search.trials=3")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "best of 3: optimizer.peak_lr=" in first.stdout
    runs = sorted((tmp_path / "runs").glob("v1-*/result.json"))
    assert len(runs) == 3
    second = typed("search.trials=4")
    assert second.returncode == 0
    assert "best of 4" in second.stdout
    assert len(list((tmp_path / "runs").glob("v1-*/attempts/*"))) == 4
    rows = [line.split("│") for line in second.stdout.splitlines() if line.startswith("│")]
    losses = [float(row[-2]) for row in rows]
    assert losses == sorted(losses)
    assert len(losses) == 4


def test_unfinished_trials_come_first(config, tiny, tmp_path):
    study = open_study(config, tiny, tmp_path)
    left = ask(study, config, num_workers=2)
    assert [trial.number for trial in left] == [0, 1]
    # A new process opens the journal: the two are still to do, and no third is asked for.
    again = ask(open_study(config, tiny, tmp_path), config, num_workers=2)
    assert [trial.params for trial in again] == [trial.params for trial in left]
    study = open_study(config, tiny, tmp_path)
    study.tell(0, 1.0)
    study.tell(1, state=TrialState.FAIL)
    assert [trial.number for trial in ask(study, config, num_workers=8)] == [2, 3]
    study.tell(2, 1.0)
    study.tell(3, 1.0)
    assert ask(study, config, num_workers=8) == []


def test_another_recipe_is_another_search(config, tiny, tmp_path, with_samples):
    one, other = open_study(config, tiny, tmp_path), open_study(config, with_samples(tiny, 80), tmp_path)
    assert one.study_name != other.study_name


def test_values_reach_the_run(tiny):
    assert with_values(tiny, {"optimizer.peak_lr": 0.5, "budget.samples": 80}).budget.samples == 80


@pytest.mark.parametrize("path", ["optimizer.lr", "optimizer.peak_lr.x", "nothing"])
def test_a_parameter_that_is_no_value_of_a_run_is_named(tiny, path):
    with pytest.raises(UsageError, match=f"'{path}' is no value of a run"):
        with_values(tiny, {path: 1.0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 0}, "trials: Input should be greater than 0"),
        ({"direction": "up"}, "'minimize' or 'maximize'"),
        ({"parameters": [{"path": "seed", "low": 2, "high": 1}]}, "low=2.0 must be below high=1.0"),
        ({"parameters": [{"path": "seed", "low": 0, "high": 1, "log": True}]}, "above 0 if log"),
    ],
)
def test_a_search_that_cannot_be_says_why(change, message):
    values = {"metric": "caption_loss", "direction": "minimize", "trials": 3, "parameters": []}
    with pytest.raises(UsageError, match=message):
        checked("search", SearchConfig, values | change)


@pytest.mark.parametrize(
    ("more", "message"),
    [(["search=learning"], "unknown search 'learning'"), (["search.trails=3"], "Did you mean 'search.trials'?")],
)
def test_bad_input_gets_one_sentence(typed, more, message):
    refused = typed(*more)
    assert refused.returncode == 2
    assert message in refused.stderr
