"""``python -m aimv2 train executor=slurm``."""

import pytest

from aimv2.cli import main
from aimv2.sweeps.active_launches import active_launches
from tests.helpers.slurm import on_path
from tests.helpers.training import small_run


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """SLURM's commands, as scripts."""
    return on_path(monkeypatch, tmp_path / "bin")


@pytest.fixture
def train(tmp_path, cache_dir, monkeypatch, capsys):
    """Call ``train`` for a small run on SLURM; return exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def train(*arguments):
        return main(["train", *small_run(cache_dir, "executor=slurm", *arguments)]), *capsys.readouterr()

    return train


def test_run_and_untrained_encoder_are_submitted_with_the_keys_of_sweeps(train, slurm, tmp_path):
    status, printed, errors = train("ranks=2", "executor.partition=gpu", "executor.nodes=1", "executor.minutes=7")
    assert (status, errors) == (0, "")
    assert "submitted: 1 worker as array 7 and 1 worker as array 8, then finalizer job 9" in printed
    untrained, trained, finalizer = slurm.submissions(tmp_path / "runs")
    for submission in (untrained, trained, finalizer):
        assert {"#SBATCH --partition=gpu", "#SBATCH --time=7"} <= set(submission.script)
    assert "#SBATCH --ntasks-per-node=2" in trained.script
    assert "#SBATCH --ntasks-per-node=2" not in untrained.script
    assert finalizer.dependency == "afterany:7:8"
    (launch,) = active_launches(tmp_path / "runs")
    assert (launch.study, len(launch.runs)) == ("train", 2)


@pytest.mark.exhaustive
def test_jobs_do_the_run_once_and_the_finalizer_ends_the_launch(train, slurm, tmp_path):
    train()
    array, finalizer = slurm.submissions(tmp_path / "runs")
    done = [name for job in array.jobs for name in job().done]
    assert len(done) == len({*done}) == 2
    finalizer.jobs[0]()
    assert active_launches(tmp_path / "runs") == []
    assert not (tmp_path / "reports").exists()
    status, printed, _ = train()
    assert status == 0
    assert "run folder: " in printed
    assert len(slurm.submissions(tmp_path / "runs")) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["executor.minute=5"], "Did you mean 'executor.minutes'?"),
        (["ranks=2", "executor.nodes=3"], "ranks=2 cannot be spread evenly over executor.nodes=3"),
        (["executor.workers=2", "ranks=2"], "such runs need one job each"),
        (["limit=1FLOPs"], "times limit=1FLOPs; nothing was started"),
        (["limit=2h"], "limit=2h"),
    ],
)
def test_wrong_keys_are_refused_in_one_sentence(train, slurm, tmp_path, words, message):
    status, _, errors = train(*words)
    assert status == 2
    assert message in errors
    assert slurm.submissions(tmp_path) == []


def test_an_unknown_executor_is_refused_with_those_that_exist(capsys):
    assert main(["train", "executor=nowhere"]) == 2
    assert "unknown executor 'nowhere'. Allowed: debug, local, slurm." in capsys.readouterr().err


@pytest.mark.exhaustive
def test_an_executor_that_waits_prints_the_results(tmp_path, cache_dir, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *small_run(cache_dir, "executor=debug")]) == 0
    printed = capsys.readouterr().out
    assert "2 runs done" in printed
    assert "run folder: " in printed
    assert len(list(tmp_path.glob("runs/*/result.json"))) == 2
    assert active_launches(tmp_path / "runs") == []
    diverging = ("budget.samples=64", "optimizer.peak_lr=1e30", "optimizer.warmup_fraction=0.01")
    assert main(["train", *small_run(cache_dir, "executor=debug", *diverging)]) == 1
    assert "failed, not finite" in capsys.readouterr().out


@pytest.mark.parametrize("executor", ["local", "debug"])
def test_training_that_takes_days_is_refused_as_without_workers(tmp_path, cache_dir, monkeypatch, capsys, executor):
    monkeypatch.chdir(tmp_path)
    words = ("scale=vit_l_2b", "device=cpu", "precision=float32", f"executor={executor}")
    assert main(["train", *words, f"data.cache_dir={cache_dir}"]) == 2
    assert "on the CPU this takes" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/v2-*"))
