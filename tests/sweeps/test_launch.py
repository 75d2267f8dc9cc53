"""The launcher, and the files that it leaves."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import read_request, requested_names
from aimv2.cli import main
from aimv2.config.recipes.scales import demo
from aimv2.sweeps import launch
from aimv2.sweeps.active_launches import active_launches
from aimv2.sweeps.executors.base import queue_of
from aimv2.sweeps.parse import parse
from aimv2.sweeps.plan import Plan
from aimv2.sweeps.progress import plan_status
from tests.helpers.slurm import on_path
from tests.helpers.sweeps import small_sweep, training, wait_for
from tests.helpers.training import small_run

LAUNCH = Path(__file__).parents[2] / "sweeps" / "launch.py"
ONE_ARM = ("sweep.arms=[uniform]", "sweep.seeds=1")


def results(folder):
    return sorted(Path(folder).glob("runs/*/result.json"))


def attempts(folder):
    return sorted(Path(folder).glob("runs/*/attempts/*"))


def test_a_dry_run_prints_the_plan_and_its_price_and_writes_nothing(here, tmp_path):
    status, shown, error = here("dry_run=true", "scale=demo", f"budget.samples={demo().budget.samples}")
    assert status == 0, error
    assert "causal" in shown
    assert "20 runs, 20 to do" in shown, "four arms and the untrained encoder with four seeds"
    assert "training FLOPs" in shown
    assert not list(tmp_path.iterdir())


@pytest.mark.exhaustive
def test_plans_and_status_load_no_torch_once_speeds_are_measured(tmp_path):
    """Torch takes longer to load than all the rest. The first dry run measures, in a folder without a cache."""
    arguments = [*small_sweep(str(tmp_path / "cache"), "sweep.seeds=125"), "dry_run=true"]
    assert launch.main(arguments) == 0
    (tmp_path / "runs").mkdir()
    look = f"launch.main({arguments!r}); manage.main(['status'])"
    script = f"import sys; from aimv2.sweeps import launch, manage; {look}; print(*sys.modules)"
    num_runs = 125 * (len(STUDIES["prefix_ratio"].arms) + 1)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert f"{num_runs} runs, {num_runs} to do" in done.stdout, done.stderr
    assert not {"torch", "pandas", "scipy", "sklearn", "optuna"} & set(done.stdout.splitlines()[-1].split())


def test_a_sweep_does_each_run_once_and_writes_a_report(here, tmp_path):
    status, shown, _ = here(*ONE_ARM)
    assert status == 0
    assert "2 runs done" in shown
    assert len(results(tmp_path)) == len(attempts(tmp_path)) == 2
    report = tmp_path / "reports" / "prefix_ratio"
    for name in ("report.md", "report.html", "records.parquet", "figures/learning_curves.svg"):
        assert (report / name).stat().st_size > 0, name

    status, shown, _ = here("sweep.arms=[uniform,causal]", "sweep.seeds=1")
    assert status == 0
    assert "1 run done" in shown
    assert len(attempts(tmp_path)) == 3


@pytest.mark.exhaustive
def test_an_interrupted_launch_releases_its_runs_with_a_checkpoint(started, tmp_path):
    """SIGINT reaches the launcher alone, as from a process manager."""
    process = started(*ONE_ARM, "executor.workers=1", "budget.samples=1000000")

    run = wait_for(lambda: training(tmp_path), process)
    process.send_signal(signal.SIGINT)
    output = process.communicate()[0]
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "interrupted: the workers save checkpoints and release their runs" in output
    assert (run.state(), run.num_attempts, run.num_stalled()) == ("new", 1, 0)
    assert (run.path / "attempts/0001/checkpoint").exists()
    assert not list((tmp_path / "runs/launches").iterdir())


class Terminal:
    """A command in a terminal of its own, which may be closed while it runs."""

    def __init__(self, arguments, folder):
        self._master, slave = os.openpty()
        enter = (
            "import os, sys; os.login_tty(int(sys.argv[1])); os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
        )
        words = [sys.executable, "-c", enter, str(slave), str(LAUNCH), *arguments]
        self.process = subprocess.Popen(words, cwd=folder, pass_fds=[slave])
        os.close(slave)
        os.set_blocking(self._master, False)

    def read(self):
        """Return what was printed since the last call; without readers a terminal that is full stops its writers."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self._master, 1 << 16)
        return b""

    def close(self):
        os.close(self._master)

    def alive(self):
        """Return the ids of its processes, by their session."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.process.pid and state not in "ZX":
                    found.append(int(path.parent.name))
        return found


@pytest.fixture
def closed(cache_dir, tmp_path):
    """Launch a small sweep in a terminal and close that while a run trains; return the terminal and the run."""
    opened = []

    def close(*more):
        terminal = Terminal(small_sweep(cache_dir, *ONE_ARM, "executor.workers=1", *more), tmp_path)
        opened.append(terminal)
        printed = b""
        while not (run := training(tmp_path)):
            printed += terminal.read()
            assert terminal.process.poll() is None, printed.decode()
            time.sleep(0.1)
        terminal.close()
        return terminal, run

    yield close
    for terminal in opened:
        for pid in terminal.alive():
            os.kill(pid, signal.SIGKILL)
        terminal.process.wait()


@pytest.mark.exhaustive
def test_a_closed_terminal_releases_the_runs_with_a_checkpoint(closed, tmp_path):
    terminal, run = closed("budget.samples=1000000")
    assert terminal.process.wait() == 130
    assert terminal.alive() == []
    assert (run.state(), run.num_attempts) == ("new", 1)
    assert (run.path / "attempts/0001/interrupted").exists()
    assert (run.path / "attempts/0001/checkpoint").exists()
    assert not list((tmp_path / "runs/launches").iterdir())


@pytest.mark.exhaustive
def test_two_launches_at_once_do_each_run_once(started, tmp_path):
    both = [started("sweep.arms=[uniform]", "sweep.seeds=2") for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(outputs)
    assert len(results(tmp_path)) == len(attempts(tmp_path)) == 4


@pytest.mark.exhaustive
def test_a_killed_launch_continues_with_the_runs_that_are_missing(started, tmp_path):
    arguments = ("sweep.arms=[uniform]", "sweep.seeds=2", "budget.samples=1024")
    process = started(*arguments)
    wait_for(lambda: results(tmp_path), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in results(tmp_path)}
    again = started(*arguments)
    output = again.communicate()[0]
    assert again.returncode == 0, output
    assert f"{4 - len(before)} to do" in output
    assert len(results(tmp_path)) == 4
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in before.items())


@pytest.mark.exhaustive
def test_a_failed_run_is_named_retried_once_per_launch_and_shown_in_the_report(here, tmp_path):
    for number in (1, 2):
        status, shown, _ = here(*ONE_ARM, "optimizer.peak_lr=1e30", "optimizer.warmup_fraction=0.01")
        assert status == 1
        assert "failed, not finite:" in shown
        assert len([path for path in attempts(tmp_path) if (path / "failure.json").exists()]) == number
    assert "not finite: " in (tmp_path / "reports/prefix_ratio/report.md").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("limit=1s",), "times limit=1s; nothing was started"),
        (("limit=1MB",), "times limit=1MB; nothing was started"),
        (("runs_dir=/proc/nowhere",), "runs_dir='/proc/nowhere' cannot be written"),
        (("reports_dir=/proc/nowhere",), "reports_dir='/proc/nowhere' cannot be written"),
    ],
)
def test_a_refused_launch_prints_one_sentence_and_does_no_run(here, tmp_path, more, message):
    status, _, error = here(*more)
    assert status == 2
    assert message in error
    assert error.count("\n") == 1
    assert not attempts(tmp_path)


@pytest.mark.exhaustive
def test_on_a_cluster_one_launch_has_the_runs_of_both_studies_and_one_job_writes_their_reports(
    cache_dir, tmp_path, monkeypatch
):
    slurm = on_path(monkeypatch, tmp_path / "bin")
    monkeypatch.chdir(tmp_path)
    words = small_sweep(cache_dir, "executor=slurm", "sensitivity=auto", "sweep.seeds=2", sweep="caption_order")
    parsed = parse([*words, "dry_run=true"])
    assert launch.main(words) == 0
    (active,) = active_launches(tmp_path / "runs")
    assert active.study == "caption_order"
    assert active.runs == {cell.name for one in (parsed.request, parsed.sensitivity) for cell in one.cells}
    _, finalizer = slurm.submissions(tmp_path / "runs")
    folders = [parsed.sensitivity.folder, "caption_order"]
    assert [one.folder for one in finalizer.jobs[0].plan.requests] == folders
    assert requested_names(tmp_path / "runs") == sorted(folders)
    for name in folders:
        request = read_request(tmp_path / "runs", name, STUDIES)
        slurm.queue("7|RUNNING|None")
        plan = Plan(name, request.cells, tmp_path / "runs")
        assert plan_status(plan, queue_of=queue_of).num_launches == 1


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
