"""Runs that share a GPU. The card is simulated; the processes on it are real ones, which train on the CPU."""

import contextlib
import importlib
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from aimv2.config import resolve
from aimv2.config.signature import signature
from aimv2.errors import UsageError
from aimv2.runs.record import RunFolder
from sweeps import launch, search
from sweeps.active_launches import new_launch
from sweeps.executors import card as card_module
from sweeps.executors import cluster, pack
from sweeps.executors import local as executors
from sweeps.executors.cluster import Element
from sweeps.executors.local import LocalConfig
from sweeps.executors.slurm import SlurmConfig
from sweeps.machine import slots
from sweeps.worker import Task

ENDLESS = 1000  # steps, of a hundredth of a second
TIMEOUT_SECONDS = 120


@pytest.fixture(autouse=True)
def it_ends():
    """Who starts processes again and again is stopped."""
    before = signal.signal(signal.SIGALRM, lambda number, frame: pytest.fail("it does not end"))
    signal.alarm(TIMEOUT_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def card(tmp_path, monkeypatch):
    """A function that makes a simulated card; one a test."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    module = importlib.import_module("simulated_card")
    folder = tmp_path / "card"
    folder.mkdir()

    def make(total, scenario="nothing_more", before=0):
        return module.SimulatedCard(folder, total, before, getattr(module, scenario))

    yield make
    for path in folder.glob("started-*"):  # a test that failed may leave them
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(path.name.removeprefix("started-")), signal.SIGKILL)


@pytest.fixture
def tasks(tiny, pairs):
    """Tasks of so many images a step each; two steps, unless said otherwise. Their data lies there."""

    def make(*sizes, num_steps=2):
        budgets = [replace(tiny.budget, batch_size=size, samples=num_steps * size) for size in sizes]
        configs = [replace(tiny, seed=seed, budget=budget) for seed, budget in enumerate(budgets)]
        return [Task(signature(config), config, tries=0) for config in configs]

    return make


def runs_of(tasks, tmp_path):
    return [RunFolder(tmp_path / "runs", task.name) for task in tasks]


def do(tasks, tmp_path, card, *, takes_seats=False, minutes=None):
    """On the card that a machine of two has as its second, whose first is somebody else's."""

    def numbered(gpu):
        assert gpu == takes_seats
        return card

    return pack.pack(tasks, tmp_path / "runs", minutes, at_once=8, takes_seats=takes_seats, card=numbered)


@pytest.fixture
def cores(monkeypatch):
    """A function that says how many cores there are, and takes a seat on the first of two GPUs."""
    with contextlib.ExitStack() as taken:

        def are(number):
            monkeypatch.setattr(slots, "num_gpus", lambda: 2)
            monkeypatch.setattr(slots, "num_cores", lambda: number)
            assert taken.enter_context(slots.seats("gpu", 1)) == [0]

        yield are


def test_an_element_with_several_runs_at_once_asks_its_gpu(tasks, tmp_path, monkeypatch):
    todo = tasks(8)
    active = new_launch(tmp_path / "runs", "s", {todo[0].name: 0})
    monkeypatch.setattr(cluster, "_tasks", lambda launch: todo)
    monkeypatch.setattr(card_module, "num_gpus", lambda: 0)
    with pytest.raises(UsageError, match="torch sees no CUDA device where the worker runs"):
        Element(active, 0, at_once=2)()


SLURM = {"cluster": "slurm", "minutes": 60, "signal_seconds": 90, "array_parallelism": 256}


def test_only_runs_of_one_process_on_a_gpu_share_one(tiny, monkeypatch):
    monkeypatch.setattr(executors, "num_cores", lambda: 8)
    configs = [LocalConfig(cluster="local", share_gpu=True), SlurmConfig(**SLURM, cpus_per_task=8, share_gpu=True)]
    on_gpu = replace(tiny, device="cuda")
    for config in configs:
        assert config.runs_per_gpu([on_gpu]) == 8
        assert replace(config, share_gpu=False).runs_per_gpu([tiny]) == 1
        with pytest.raises(UsageError, match="share_gpu=true and runs on the CPU: there is no GPU that they could sha"):
            config.check([on_gpu, tiny])
    with pytest.raises(UsageError, match="share_gpu=true and ranks=2: only runs of one process share a GPU"):
        configs[1].check([replace(on_gpu, ranks=2)])


def test_there_must_be_cores_for_two(tiny, monkeypatch):
    run = replace(tiny, device="cuda", threads=2, loader=replace(tiny.loader, num_workers=1))
    for cores in (None, 5):
        config = SlurmConfig(**SLURM, cpus_per_task=cores, share_gpu=True)
        with pytest.raises(
            UsageError, match=r"needs executor.cpus_per_task for the runs of a GPU, at least 6: each tak"
        ):
            config.check([run])
    assert SlurmConfig(**SLURM, cpus_per_task=10, share_gpu=True).runs_per_gpu([run]) == 3
    monkeypatch.setattr(executors, "num_cores", lambda: 3)
    with pytest.raises(UsageError, match="share_gpu=true and 3 cores have no room for two runs at threads=2"):
        LocalConfig(cluster="local", share_gpu=True).check([run])


@pytest.mark.parametrize("dry_run", [(), ("dry_run=true",)], ids=["", "dry"])
@pytest.mark.parametrize("executor", [(), ("executor=slurm", "executor.cpus_per_task=4")], ids=["local", "slurm"])
def test_a_launch_on_the_cpu_is_refused_before_anything_is_left(
    executor, dry_run, cache_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resolve, "has_cuda", lambda: False)
    asked = ["sweep=prefix_ratio", "executor.share_gpu=true", f"data.cache_dir={cache_dir}", *executor, *dry_run]
    assert launch.main(asked) == 2
    assert "executor.share_gpu=true and runs on the CPU" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_search_which_has_a_trial_a_worker_refuses_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert search.main(["search=optimizer", "executor.share_gpu=true"]) == 2
    assert "executor.share_gpu=true changes nothing: a search asks for as many trials as" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_card_is_filled_and_what_was_too_large_beside_another_is_done_later(card, tasks, tmp_path, cores):
    """20 bytes, of which a run of 4 and one of 8 leave room for no other but for its margin; then comes one of 13, and
    one that is too large for the card."""
    cores(8)
    todo, on = tasks(4, 8, 13, 24), card(total=20, scenario="small_and_larger")
    report = do(todo, tmp_path, on, takes_seats=True)
    small, middle, large, too_large = runs_of(todo, tmp_path)
    assert sorted(report.done) == sorted(run.name for run in (small, middle, large))
    assert on.marks("started") == 2, "no third beside the first two, and never again two"
    assert (large.num_attempts, large.num_tries) == (2, 1)
    assert not list(large.path.glob("attempts/*/failure.json"))
    assert report.failed == [too_large.name]
    assert (too_large.num_attempts, too_large.failure().cause) == (1, "out of memory")
    assert 0 < report.working_seconds < report.seconds
    assert report.cpu_seconds > 1, "that of the processes"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "sizes", "minutes"),
    [("signal_parent", (4, 8, 9), None), ("signal_all", (13, 9), None), ("endless", (13, 9), 0.02)],
)
def test_asked_to_stop_all_keep_checkpoints_and_hand_their_runs_back(card, tasks, tmp_path, scenario, sizes, minutes):
    """The parent alone is told and has two, or every process is and there is one, or its time is up."""
    todo = tasks(*sizes, num_steps=ENDLESS)
    report = do(todo, tmp_path, card(total=20, scenario=scenario), minutes=minutes)
    assert report.signal == (None if minutes else signal.SIGUSR2)
    assert report.was_out_of_time == bool(minutes)
    assert (report.done, report.failed, report.problem) == ([], [], "")
    *stopped, untried = runs_of(todo, tmp_path)
    for run in stopped:
        assert (run.state(), run.num_attempts, run.num_tries) == ("new", 1, 0)
        assert (run.path / "attempts/0001/checkpoint.safetensors").exists()
    assert untried.num_attempts == 0


@pytest.mark.slow
def test_another_takes_the_place_of_a_process_that_was_killed(card, tasks, tmp_path, cores, capfd):
    """Memory is there for two, and a seat for one. The other run is too large for the card."""
    cores(1)
    todo, on = tasks(8, 24), card(total=20, scenario="die_once")
    report = do(todo, tmp_path, on, takes_seats=True)
    assert (report.done, report.failed) == ([todo[0].name], [todo[1].name])
    assert on.marks("started") == 2, "one after the other"
    assert [run.num_tries for run in runs_of(todo, tmp_path)] == [2, 1]
    assert "of this worker ended early" in capfd.readouterr().err


@pytest.mark.slow
def test_processes_that_die_before_they_begin_a_run_are_not_started_for_ever(card, tasks, tmp_path):
    todo, on = tasks(8), card(total=20, scenario="broken")
    assert do(todo, tmp_path, on).done == []
    assert on.marks("started") == 1
    assert runs_of(todo, tmp_path)[0].num_attempts == 0


@pytest.mark.slow
def test_where_no_run_can_be_claimed_none_is_tried_for_ever(card, tasks, tmp_path):
    todo = tasks(8)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / todo[0].name).touch()  # a file, and not the run's folder
    simulated = card(total=100)
    report = do(todo, tmp_path, simulated)
    assert "Not a directory" in report.problem or "File exists" in report.problem
    assert simulated.marks("started") == 1


def test_no_process_outlives_its_parent(card, tasks, tmp_path):
    todo, on = tasks(8, num_steps=ENDLESS), card(total=10, scenario="endless")
    parent = multiprocessing.get_context("fork").Process(target=do, args=(todo, tmp_path, on))
    parent.start()
    on.wait(lambda: on.marks("stepped"))
    assert len(on.held()) == 1
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    on.wait(lambda: not on.held())
    assert runs_of(todo, tmp_path)[0].state() == "new"
