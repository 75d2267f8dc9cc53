"""Managing sweeps, as it is typed."""

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import expand
from aimv2.ablations.request import Request, read_request, read_requests, write_request
from aimv2.ablations.studies.prefix_ratio import PREFIX_RATIO
from aimv2.runs.failure import Failure
from aimv2.runs.provenance import digest
from aimv2.runs.record import RunFolder
from aimv2.sweeps import manage
from aimv2.sweeps.active_launches import active_launches, at_work, cancelled
from aimv2.sweeps.launch import launch, relaunch
from tests.helpers.finished_sweeps import finished, requested, small_arguments


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(capsys):
    """Run a command; gives its exit status and its output as one line."""

    def run(*arguments):
        capsys.readouterr()
        status = manage.main(arguments)
        shown = capsys.readouterr()
        return status, " ".join((shown.out + shown.err).split())

    return run


def fail(runs_dir, cell, failure):
    """Let the next attempt at a run fail."""
    with RunFolder(runs_dir, cell.name).acquire(cell.config) as attempt:
        attempt.fail(failure, "Traceback: line 1")


def last_request(runs_dir):
    return read_request(runs_dir, "prefix_ratio", STUDIES)


def test_status_of_a_finished_sweep(done, command, capsys):
    status, shown = command("status", f"runs_dir={done}")
    assert status == 0
    assert "prefix_ratio: Does the prefix-length distribution matter" in shown
    assert "2 runs, 2 done; 64 of 64 samples; 0 active launches" in shown
    assert command("status", f"runs_dir={done}", "--watch")[0] == 0, "no launch is active, so it ends"

    assert manage.main(["status", "prefix_ratio", "--json", f"runs_dir={done}"]) == 0
    (sweep,) = json.loads(capsys.readouterr().out)
    assert {run["run"] for run in sweep["runs"]} == {cell.name for cell in last_request(done).cells}
    assert {run["state"] for run in sweep["runs"]} == {"done"}


def test_logs_and_retry_of_a_finished_sweep(done, command):
    name = last_request(done).cells[0].name
    status, shown = command("logs", name, f"runs_dir={done}")
    assert status == 0
    assert "attempt 0001:" in shown
    assert "finished" in shown
    assert "samples 0 16 32 48 64" in shown
    shown = "no run of your last launch of prefix_ratio has failed"
    assert command("retry", "prefix_ratio", f"runs_dir={done}") == (0, shown)


def test_logs_of_a_failed_run_show_its_traceback(folder, cache_dir, command):
    cell = requested(folder / "runs", cache_dir).cells[0]
    fail(folder / "runs", cell, Failure("bug", "division by zero"))
    status, shown = command("logs", cell.name)
    assert status == 0
    assert "failed, bug: division by zero" in shown
    assert "Traceback: line 1" in shown
    assert "Traceback" not in command("status", "prefix_ratio")[1]


@pytest.mark.exhaustive
def test_extend_keeps_the_seeds_that_it_does_not_name(folder, copied, command):
    status, shown = command("extend", "prefix_ratio", "sweep.seeds=[1]")
    assert status == 0, shown
    assert "2 runs, 2 to do" in shown
    assert {cell.seed for cell in last_request(copied).cells} == {0, 1}
    results = Path(shown.partition("report: ")[2].split()[0]).read_text()
    assert "4 runs, 4 done" in command("status", "prefix_ratio")[1]
    assert all(cell.name in results for cell in last_request(copied).cells), "the report is on the union too"


@pytest.mark.exhaustive
def test_retry_and_extend_follow_ones_own_launch(folder, cache_dir, command, monkeypatch):
    runs_dir = folder / "runs"
    monkeypatch.setenv("LOGNAME", "ada")
    ours = requested(runs_dir, cache_dir, "sweep.seeds=[0]")
    monkeypatch.setenv("LOGNAME", "ben")
    theirs = requested(runs_dir, cache_dir, "sweep.seeds=[1]", "executor.workers=1")
    fail(runs_dir, theirs.cells[0], Failure("bug", "of ben"))
    monkeypatch.setenv("LOGNAME", "ada")
    shown = "no run of your last launch of prefix_ratio has failed runs that are not done: 2; launch the sweep again to"
    assert command("retry", "prefix_ratio") == (0, f"{shown} execute them")
    fail(runs_dir, ours.cells[0], Failure("bug", "of ada"))
    status, shown = command("retry", "prefix_ratio")
    assert status == 0, shown
    assert "repeating" not in shown
    assert RunFolder(runs_dir, ours.cells[0].name).is_done
    assert not RunFolder(runs_dir, theirs.cells[0].name).is_done
    assert "executor.workers=1" not in read_requests(runs_dir, "prefix_ratio", STUDIES)[0].arguments


def test_another_users_launch_is_repeated_only_by_name(folder, copied, command, monkeypatch):
    monkeypatch.setenv("LOGNAME", "a-visitor")
    owner = last_request(copied).owner
    status, shown = command("retry", "prefix_ratio")
    assert status == 0
    assert f"repeating the launch of {owner}, since none is yours" in shown


READER = ("evaluation.reader.samples=16", "evaluation.reader.pairs=8", "evaluation.reader.width=16")


def of_other_code(runs_dir):
    """Let the finished runs of a folder be of other code."""
    for path in runs_dir.glob("v*/attempts/*/manifest.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"code": "0123456789ab"}))
    shutil.rmtree(runs_dir / "index")


@pytest.mark.exhaustive
def test_measure_adds_a_report_to_finished_runs_without_training(folder, copied, command):
    of_other_code(copied)
    before = last_request(copied).cells
    status, shown = command("measure", "prefix_ratio", *READER)
    assert status == 0, shown
    assert "2 of these runs measure the weights of finished runs" in shown
    assert "trained by code 0123456789ab price: at most 0.00e+00 training FLOPs" in shown
    assert "done runs are of code" not in shown, "all runs of the report have the same two codes"
    runs = [RunFolder(copied, cell.name) for cell in last_request(copied).cells]
    for run, cell in zip(runs, before, strict=True):
        values, trained = run.result(), RunFolder(copied, cell.name).result()
        assert values["metrics"]["reader_loss"]["value"] > 0
        assert trained["metrics"]["reader_loss"]["value"] is None
        assert values["train_cpu_seconds"] == trained["train_cpu_seconds"]
    results = Path(shown.partition("report: ")[2].split()[0]).read_text()
    assert "reader loss" in results
    assert f"0123456789ab+{digest()}" in results
    status, shown = command("measure", "prefix_ratio", *READER)
    assert (status, [run.num_attempts for run in runs]) == (0, [1, 1]), "each is measured once"
    assert "2 runs, 0 to do" in shown


@pytest.mark.exhaustive
def test_measure_into_another_folder_adds_what_newer_code_measures(folder, copied, command):
    """Runs keep their names there, since no value differs."""
    of_other_code(copied)
    status, shown = command("measure", "prefix_ratio", "to=again")
    assert status == 0, shown
    for cell in last_request(copied).cells:
        now = json.loads(RunFolder(folder / "again", cell.name).file("manifest.json").read_text())
        assert (now["trained"]["run"], now["trained"]["code"]) == (cell.name, "0123456789ab")


@pytest.mark.exhaustive
def test_measure_trains_nothing(folder, copied, command):
    trained, _ = last_request(copied).cells
    RunFolder(copied, trained.name).file("weights.safetensors").unlink()
    status, shown = command("measure", "prefix_ratio", *READER)
    assert status == 0, shown
    assert "note: 1 of 2 runs cannot be measured without training: their weights are gone (1)" in shown
    assert "runs that are still missing: 1" in shown
    for path in copied.glob("v*/attempts/*/weights.safetensors"):
        path.unlink()
    before = sorted(copied.rglob("*"))
    status, shown = command("measure", "prefix_ratio", "evaluation.knn_neighbours=3")
    assert (status, sorted(copied.rglob("*"))) == (2, before)
    assert shown == "error: 2 of 2 runs cannot be measured without training: their weights are gone (2)"


def test_measure_refuses_what_is_not_evaluation(copied, command):
    status, shown = command("measure", "prefix_ratio", "optimizer.peak_lr=1e-3", f"runs_dir={copied}")
    assert status == 2
    assert "key of measure 'optimizer.peak_lr'" in shown
    typed = ("evaluation.split=validation", "evaluation.num_items=24", "evaluation.num_pairs=24")
    shutil.rmtree(copied / last_request(copied).cells[1].name)
    status, shown = command("measure", "prefix_ratio", *typed, f"runs_dir={copied}")
    assert status == 2
    assert "no finished run has their training, to which split, curve_pairs, curve_points belong (2)" in shown


def test_launch_reuses_trainings_of_its_own_code_only(copied, cache_dir, capsys):
    words = [*small_arguments(copied, cache_dir), "evaluation.knn_neighbours=3", "dry_run=true"]
    assert launch(words) == 0
    assert "1 of these runs measure the weights of finished runs" in " ".join(capsys.readouterr().out.split())
    of_other_code(copied)
    capsys.readouterr()
    assert launch(words) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "measure the weights" not in shown.replace("to measure the weights", "")
    assert "1 of these runs are trained again, though finished runs of other code" in shown
    assert "sweeps/manage.py measure" in shown


@pytest.mark.exhaustive
def test_two_processes_measure_each_run_once(folder, copied):
    command = [sys.executable, manage.__file__, "measure", "prefix_ratio", *READER, "executor=local"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    runs = [RunFolder(copied, cell.name) for cell in last_request(copied).cells]
    assert [(run.is_done, run.num_attempts) for run in runs] == [(True, 1), (True, 1)]


def test_retry_does_failed_runs_only(folder, copied, command):
    failed, waiting = last_request(copied).cells
    for cell in (failed, waiting):
        shutil.rmtree(copied / cell.name)
    fail(copied, failed, Failure("out of memory", "CUDA out of memory"))
    status, shown = command("retry", "prefix_ratio")
    assert status == 0, shown
    assert "retry with a smaller executor.runs_per_gpu" in shown
    assert RunFolder(copied, failed.name).is_done
    assert RunFolder(copied, failed.name).num_attempts == 2
    assert RunFolder(copied, waiting.name).state() == "new"
    assert "no worker tried it" not in shown


@pytest.mark.exhaustive
def test_retry_of_a_run_that_fails_again_returns_1(folder, cache_dir, command):
    request = finished(folder / "runs", cache_dir, "optimizer.peak_lr=1e30", "optimizer.warmup_fraction=0.01")
    trained, untrained = (RunFolder(folder / "runs", cell.name) for cell in request.cells)
    status, shown = command("retry", "prefix_ratio")
    assert status == 1
    assert "not finite" in shown
    assert "a lower optimizer.peak_lr" in shown
    assert (trained.num_attempts, untrained.num_attempts) == (2, 1)


@pytest.mark.parametrize(
    ("typed", "again"),
    [
        ({}, ["executor=slurm", "executor.minutes=60", "executor.mem=8GB"]),
        ({"executor.minutes": "90"}, ["executor=slurm", "executor.mem=8GB", "executor.minutes=90"]),
        ({"executor": "local", "executor.workers": "1"}, ["executor=local", "executor.workers=1"]),
        ({"seeds": "8"}, ["executor=slurm", "executor.minutes=60", "executor.mem=8GB", "sweep.seeds=8"]),
    ],
)
def test_relaunch_repeats_a_request_with_the_typed_values(typed, again):
    before = (
        "sweep=prefix_ratio",
        "executor=slurm",
        "executor.minutes=60",
        "executor.mem=8GB",
        "dry_run=true",
        "detach=true",
    )
    more = ("limit=2h", "limit=1TB", "runs_dir=elsewhere")
    found = relaunch(Request(study=PREFIX_RATIO, cells=[], arguments=(*more, *before)), {"runs_dir": "here", **typed})
    assert [word for word in found if word != "runs_dir=here"] == ["limit=2h", "limit=1TB", before[0], *again]


@pytest.mark.parametrize(
    ("old", "kept"),
    [
        (["executor=local", "executor.minutes=60"], ["executor=local"]),
        (["executor.minutes=60"], []),
        (["log.wandb=true", "log.picture_points=0"], []),
        (["search=optuna", "search.pruner=none"], ["search=optuna"]),
    ],
)
def test_relaunch_leaves_out_keys_that_older_versions_had(old, kept):
    """An unknown key of the record cannot be taken back on the command line."""
    before = Request(study=PREFIX_RATIO, cells=[], arguments=("sweep=loss_weight", *old))
    assert relaunch(before, {"seeds": "2"}) == ["sweep=loss_weight", *kept, "sweep.seeds=2"]
    assert "executor.minutes=9" in relaunch(before, {"executor.minutes": "9"}), "what is typed is refused by its name"


@pytest.fixture
def untried(folder, tiny):
    """A recorded request whose runs no worker has tried."""
    cells = expand(PREFIX_RATIO, tiny, seeds=[0])
    write_request(folder / "runs", Request(study=PREFIX_RATIO, cells=cells, arguments=("sweep=prefix_ratio",)))
    return folder / "runs", cells


def test_cancel_spares_the_runs_of_another_sweep(untried, command):
    runs_dir, cells = untried
    assert command("cancel", "prefix_ratio_test") == (0, "prefix_ratio_test has no active launch")
    names = [cell.name for cell in cells]
    with at_work(runs_dir, "prefix_ratio_test", names) as ours, at_work(runs_dir, "other", [names[0]]) as other:
        with RunFolder(runs_dir, names[0]).acquire(cells[0].config):
            status, shown = command("cancel", "prefix_ratio_test")
            assert status == 2
            assert "There is no terminal to answer in; type yes=true" in shown
            assert cancelled(ours) is None
            status, shown = command("cancel", "prefix_ratio_test", "yes=true")
        assert status == 0
        assert f"active runs to release: 0, waiting runs that will not start: {len(names) - 1}" in shown
        assert cancelled(ours) == set(names[1:])
        assert cancelled(other) is None


@pytest.fixture
def two_launches(untried, monkeypatch):
    """Active launches of one study by two users, with a common run; gives their folders by owner."""
    runs_dir, cells = untried
    names = [cell.name for cell in cells]
    with ExitStack() as stack:
        folders = {}
        for owner, runs in (("ada", names[:2]), ("ben", names[1:])):
            monkeypatch.setenv("LOGNAME", owner)
            folders[owner] = stack.enter_context(at_work(runs_dir, "prefix_ratio_test", runs))
        monkeypatch.setenv("LOGNAME", "ada")
        yield folders


def test_cancel_reaches_a_launch_whatever_the_clocks_say(untried, command):
    """Its heartbeats may be stamped by a clock that is behind."""
    runs_dir, cells = untried
    with at_work(runs_dir, "prefix_ratio_test", [cells[0].name]) as launch_dir:
        (launch_dir / "holder.json").write_text("{}")  # on another host
        os.utime(launch_dir / "heartbeat", (0, 0))
        assert active_launches(runs_dir) == []
        assert command("cancel", "prefix_ratio_test", "yes=true")[0] == 0
        assert cancelled(launch_dir) == {cells[0].name}


def test_cancel_says_which_launch_ended_while_it_asked(two_launches, command, monkeypatch):
    gone = two_launches["ada"]

    def answer(question):
        shutil.rmtree(gone)
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    status, shown = command("cancel", "prefix_ratio_test", "launch=all")
    assert status == 0, shown
    assert f"{gone.name.rpartition('-')[2]} has ended meanwhile Cancelled" in shown
    assert cancelled(two_launches["ben"]) is not None


@pytest.mark.parametrize(
    ("typed", "taken"), [((), {"ada"}), (("launch=ID",), {"ben"}), (("launch=all",), {"ada", "ben"})]
)
def test_cancel_takes_ones_own_launches_unless_others_are_named(two_launches, untried, command, typed, taken):
    runs_dir, cells = untried
    ids = {launch.owner: launch.id for launch in active_launches(runs_dir)}
    words = [word.replace("ID", ids["ben"][:6]) for word in typed]
    status, shown = command("cancel", "prefix_ratio_test", *words, "yes=true")
    assert status == 0, shown
    assert all(f"{id} {owner} {socket.gethostname()} 20" in shown for owner, id in ids.items())
    released = {owner: cancelled(folder) for owner, folder in two_launches.items()}
    assert {owner for owner, runs in released.items() if runs is not None} == taken
    common = cells[1].name
    for owner in taken:
        assert (common in released[owner]) == (len(taken) == 2), "the other launch still wants it"


def test_cancel_of_launches_that_are_all_of_others_is_refused(two_launches, command, monkeypatch):
    monkeypatch.setenv("LOGNAME", "a-visitor")
    status, shown = command("cancel", "prefix_ratio_test", "yes=true")
    assert status == 2
    assert "none of these launches is yours; type launch= and an id, or launch=all" in shown
    status, shown = command("cancel", "prefix_ratio_test", "launch=xyz", "yes=true")
    assert status == 2
    assert "none of these launches begins with xyz; type launch= and an id" in shown
    assert not any(cancelled(folder) for folder in two_launches.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats"], "unknown command 'stats'. Did you mean 'status'?"),
        (["status", "nothing"], "sweep 'nothing' was not launched into 'runs' yet; launched there: prefix_ratio_test"),
        (["status", "--jason"], "unknown key of status '--jason'. Did you mean '--json'?"),
        (["status", "runs_dir=nowhere"], "runs_dir='nowhere' does not exist"),
        (["logs"], "which run? Name one."),
        (["logs", "v2-x"], "0 runs in 'runs' begin with 'v2-x'; name exactly one that a worker has started"),
        (["retry"], "which sweep? Name one. Launched into 'runs': prefix_ratio_test."),
        (["extend", "prefix_ratio_test", "arms=2"], "unknown key of extend 'arms'"),
        (["extend", "prefix_ratio_test", "seeds=2", "seeds=3"], "seeds= is given twice; once is allowed"),
        (["status", "debug=perhaps"], "debug: Input should be a valid boolean"),
        (["cancel", "nothing"], "sweep 'nothing' was not launched into 'runs' yet"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(untried, command, arguments, message):
    status, shown = command(*arguments)
    assert status == 2
    assert message in shown


def test_status_without_a_name_shows_single_runs_too(copied, tiny, command):
    with RunFolder(copied, tiny.name).acquire(tiny) as attempt:
        attempt.fail(Failure("bug", "a test"), "")
    single = "train: single runs, of no study 1 run, 1 failed; 0 of 16 samples"
    _, shown = command("status", f"runs_dir={copied}")
    assert "prefix_ratio: Does" in shown
    assert single in shown
    assert "single runs" not in command("status", "prefix_ratio", f"runs_dir={copied}")[1]
    assert command("status", "train", f"runs_dir={copied}")[1].startswith(single)


def test_status_of_all_leaves_out_a_sweep_that_cannot_be_read(copied, command):
    (copied / "studies/another").mkdir()
    (copied / "studies/another/0123456789ab.json").write_text("{}")
    status, shown = command("status", f"runs_dir={copied}")
    assert (status, "prefix_ratio: Does" in shown) == (0, True)
    assert "studies/another/0123456789ab.json is not the record of a launch" in shown
    assert command("status", "another", f"runs_dir={copied}")[0] == 2


def test_status_of_an_empty_folder(folder, command):
    (folder / "runs").mkdir()
    assert command("status") == (0, "nothing was launched into this folder yet")
