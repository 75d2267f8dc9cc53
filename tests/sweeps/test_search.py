"""The search as it is typed, and its journal."""

import re

import pandas as pd
import pytest
from optuna.trial import TrialState

from aimv2.config.arguments import checked
from aimv2.config.run_config import from_dict
from aimv2.errors import UsageError
from aimv2.runs.files import read_json
from sweeps import search
from sweeps.search import SearchConfig, ask, open_study
from tests.helpers.finished_sweeps import ARGUMENTS


@pytest.fixture
def command(tmp_path, cache_dir, capsys):
    """Run a search in this process; gives its exit status, its output, and its errors."""

    def run(*more):
        small = [word for word in ARGUMENTS if not word.startswith(("sweep", "evaluation.num_items"))]
        small.append("evaluation.num_items=48")
        name = [] if more[0].startswith("search=") else ["search=optimizer"]
        folders = [f"runs_dir={tmp_path / 'runs'}", f"data.cache_dir={cache_dir}"]
        capsys.readouterr()
        status = search.main([*name, *folders, *small, *more])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


@pytest.fixture
def config():
    return SearchConfig(
        metric="content_loss",
        trials=4,
        parameters=({"path": "optimizer.peak_lr", "low": 1e-4, "high": 1e-2, "log": True},),
    )


def test_search_does_its_trials_once_and_resumes(command, tmp_path):
    status, out, err = command("search.trials=2")
    assert status == 0, out + err
    assert "best of 2: optimizer.peak_lr=" in out
    assert "relative to the base run: optimizer.peak_lr x " in out
    results = list(tmp_path.glob("runs/v2-*/result.json"))
    assert len(results) == 2
    configs = [from_dict(read_json(path.with_name("config.json"))) for path in results]
    assert {config.evaluation.split for config in configs} == {"validation"}, "no trial sees the test"
    status, out, _ = command("search.trials=3")
    assert status == 0
    assert "best of 3" in out
    assert len(list(tmp_path.glob("runs/v2-*/attempts/*"))) == 3
    rows = [line.split("│") for line in out.splitlines() if line.startswith("│")]
    losses = [float(row[-2]) for row in rows]
    assert losses == sorted(losses)
    assert len(losses) == 3
    (drawn,) = tmp_path.glob("runs/searches/*.csv")
    assert f"drawn in {drawn.with_suffix('.svg')}" in out
    assert drawn.with_suffix(".svg").exists()
    assert sorted(pd.read_csv(drawn)["trial"]) == [0, 1, 2]


def test_failed_trials_are_counted(command):
    status, out, _ = command("search.trials=1", "objective.pixel_weight=1e39")
    assert status == 1
    assert "failed trials: 1;" in out


def test_unfinished_trials_come_first(config, tiny, tmp_path):
    study = open_study(config, tiny, tmp_path)
    left = ask(study, config, num_workers=2)
    assert [trial.number for trial in left] == [0, 1]
    # A new process opens the journal: the two are unfinished, and no third is requested.
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


def test_bounds_that_no_run_can_have_are_refused(command, tmp_path):
    for bounds in ("{path: optimizer.lr, low: 1, high: 2}", "{path: optimizer.peak_lr, low: -1, high: 1}"):
        status, _, err = command(f"search.parameters=[{bounds}]")
        assert status == 2
        assert err.startswith("error: ")
        assert ("Did you mean 'optimizer." in err) == ("optimizer.lr" in bounds)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 0}, "trials: Input should be greater than 0"),
        (
            {"parameters": [{"path": "seed", "low": 2, "high": 1}]},
            "parameters.0: `low <= high` must hold, but got (low=2.0, high=1.0)",
        ),
        (
            {"parameters": [{"path": "seed", "low": 0, "high": 1, "log": True}]},
            "`low > 0` must hold for `log=True`",
        ),
    ],
)
def test_impossible_search_is_refused(change, message):
    values = {"metric": "content_loss", "trials": 3, "parameters": []}
    with pytest.raises(UsageError, match=re.escape(message)):
        checked("search", SearchConfig, values | change)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("search=learning", "unknown search 'learning'"),
        ("search.trails=3", "Did you mean 'search.trials'?"),
        ("search.metric=recall", "unknown search.metric 'recall'. Allowed: caption_bits, caption_loss, "),
        ("search.metric=probe_digits", "unknown search.metric 'probe_digits'."),  # its images are for the test alone
    ],
)
def test_bad_input_is_refused_in_one_sentence(command, more, message):
    status, _, err = command(more)
    assert status == 2
    assert message in err


def test_executor_slurm_is_refused(tmp_path, cache_dir, capsys):
    assert search.main(["search=optimizer", "executor=slurm", f"runs_dir={tmp_path / 'runs'}"]) == 2
    assert "executor=slurm is not possible" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
