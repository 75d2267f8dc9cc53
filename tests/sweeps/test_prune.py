"""Pruning: what is deleted, and what stays."""

import io
import json
import os
import shutil
import time
from itertools import count

import pytest
from rich.console import Console

from aimv2.ablations.expand import expand
from aimv2.ablations.studies.prefix_ratio import STUDY
from aimv2.base.files import write_json
from aimv2.objectives.build import build
from aimv2.runs import index
from aimv2.runs.attempt import CHECKPOINT
from aimv2.runs.index import Entry
from aimv2.runs.lease import Presence, Watch
from aimv2.runs.provenance import code_digest
from aimv2.runs.record import RunFolder
from aimv2.sweeps.active_launches import Jobs, at_work, new_launch, new_logs, write_jobs
from aimv2.sweeps.freeze import freeze
from aimv2.sweeps.prune import prune as pruned
from aimv2.sweeps.prune import unneeded
from aimv2.training import checkpoint
from aimv2.training.optimizer import build_optimizer
from tests.helpers.ledger import counted


@pytest.fixture
def cells(tiny):
    return expand(STUDY, tiny, seeds=[0])


@pytest.fixture
def attempt(tiny):
    """Make an attempt at a run that saves a checkpoint; gives its path."""
    model = build(tiny)
    optimizer = build_optimizer(model, tiny.optimizer)

    def make(run, config, *, end=lambda taken: None):
        taken = run.acquire(config)
        with taken:
            taken.write_rows([{"step": 0}])
            checkpoint.save(taken.folder, model, optimizer, checkpoint.Progress()).result()
            end(taken)
        return taken.folder / CHECKPOINT

    return make


def made_by(checkpoint_path, code):
    """Record that other code made it."""
    write_json(checkpoint_path.with_name("manifest.json"), {"code": code})
    return checkpoint_path


def never(seconds):
    pytest.fail("no heartbeat is in doubt")


def prune(runs_dir, pause=never, **more):
    """Delete what is not needed; return the paths, relative to the folder."""
    found = unneeded(runs_dir, pause=pause, **more)
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return {str(path.relative_to(runs_dir)) for path in found}


def launch_that_ended(runs_dir, days=2):
    """Make the record of a launch whose processes have ended, but which is still there."""
    folder = new_launch(runs_dir, "other", [])
    Presence(folder).release()
    return aged(folder, days)


def on_another_host(folder):
    (folder / "holder.json").write_text(json.dumps({"host": "elsewhere", "pid": 1}))


def aged(path, days):
    """Make a folder and its content look that old."""
    then = time.time() - 86400 * days
    for one in (path, *path.rglob("*")):
        os.utime(one, (then, then), follow_symlinks=False)
    return path


def snapshot(runs_dir, name, days=9):
    """Make a code snapshot, as ``freeze`` does."""
    path = runs_dir / "code" / name
    (path / "aimv2").mkdir(parents=True)
    (path / "aimv2" / "__init__.py").write_text(name)
    (path / "frozen.json").write_text('{"commit": "0123456789ab"}')
    return aged(path, days)


def logs(runs_dir, name, days):
    """Make the logs of a worker, as a launch does."""
    path = new_logs(runs_dir, name)
    (path / "123").mkdir()
    (path / "123" / "123_0_log.err").write_text("x" * 1000)
    return aged(path, days)


def test_prune_deletes_checkpoints_that_no_attempt_will_use(cells, attempt, tmp_path):
    runs_dir = tmp_path
    done, stopped, held, wanted = (RunFolder(runs_dir, cell.name) for cell in cells[:4])

    def finished(run, cell):
        """Finish a run; publishing deletes the checkpoint, unless the process is killed at this moment."""
        path = attempt(run, cell.config, end=lambda taken: taken.publish({}, train_flops=0))
        path.touch()
        path.with_name("evaluation").mkdir(exist_ok=True)
        return path

    kept = [attempt(stopped, cells[1].config), attempt(stopped, cells[1].config)]
    partial, own = kept[0].with_name(".checkpoint"), attempt(held, cells[2].config).with_name(".checkpoint")
    for path in (partial, own):
        path.mkdir()
    unused, requested, died = finished(done, cells[0]), finished(wanted, cells[3]), launch_that_ended(runs_dir)
    fresh = launch_that_ended(runs_dir, days=0)
    with held.acquire(cells[2].config), at_work(runs_dir, "other", [wanted.name]):
        found = prune(runs_dir)
    parts = unused.with_name("evaluation")
    assert found == {str(path.relative_to(runs_dir)) for path in (partial, unused, parts, died)}
    assert not any(path.exists() for path in (partial, unused, died))
    assert all(path.exists() for path in (*kept, own, requested, fresh))
    assert done.is_done
    again = prune(runs_dir)
    assert again == {str(path.relative_to(runs_dir)) for path in (own, requested, requested.with_name("evaluation"))}
    assert prune(runs_dir) == set()
    assert all(path.exists() for path in kept), "the next attempt may use them"


def test_prune_deletes_checkpoints_of_older_code(cells, attempt, tmp_path):
    """Older code saved a checkpoint as one file."""
    done, stopped = (RunFolder(tmp_path, cell.name) for cell in cells[:2])
    unused = attempt(done, cells[0].config, end=lambda taken: taken.publish({}, train_flops=0))
    kept = attempt(stopped, cells[1].config)
    old, needed = (path.with_name("checkpoint.safetensors") for path in (unused, kept))
    for path in (old, needed):
        path.write_bytes(b"old")
    assert prune(tmp_path) == {str(path.relative_to(tmp_path)) for path in (unused, old)}
    assert needed.exists()


def test_a_finished_run_is_searched_once(cells, attempt, tmp_path):
    """All 10,000 were, at four operations each."""
    done = RunFolder(tmp_path, cells[0].name)
    path = attempt(done, cells[0].config, end=lambda taken: taken.publish({}, train_flops=0))
    console = Console(record=True, width=200, file=io.StringIO())
    assert not index.read(tmp_path)[done.name].is_clean
    assert pruned(tmp_path, console, is_dry_run=True)
    assert path.exists()
    assert not index.read(tmp_path)[done.name].is_clean, "it writes nothing"
    assert pruned(tmp_path, console)
    assert not path.exists()
    assert index.read(tmp_path)[done.name].is_clean
    with counted(done.path) as counts:
        assert pruned(tmp_path, console)
    assert counts == {}
    shutil.rmtree(tmp_path / "index")
    path.mkdir()
    assert prune(tmp_path) == {str(path.relative_to(tmp_path))}, "without the index, all are searched"


def test_prune_deletes_code_snapshots_and_logs_that_are_not_needed(cells, attempt, tmp_path):
    runs_dir = tmp_path
    needed, unneeded, fresh = (snapshot(runs_dir, digit * 12, days) for digit, days in (("a", 9), ("b", 9), ("c", 0)))
    unfinished = snapshot(runs_dir, f".snapshot-{'d' * 12}")
    made_by(attempt(RunFolder(runs_dir, cells[1].name), cells[1].config), code_digest(needed / "aimv2"))
    young, old, of_slurm = (
        logs(runs_dir, "1" * 12, 6),
        logs(runs_dir, "2" * 12, 8),
        logs(runs_dir, f"eos-{'3' * 12}", 8),
    )
    with at_work(runs_dir, "other", []):
        assert prune(runs_dir) == set(), "workers of an active launch may need the code and write the logs"
    found = prune(runs_dir)
    assert found == {
        f"code/{'b' * 12}",
        f"code/.snapshot-{'d' * 12}",
        f"workers/{'2' * 12}",
        f"workers/eos-{'3' * 12}",
    }
    assert [path.exists() for path in (needed, unneeded, unfinished, fresh)] == [True, False, False, True]
    assert [path.exists() for path in (young, old, of_slurm)] == [True, False, False]


def test_prune_keeps_the_code_that_trained_and_the_code_that_measured(tmp_path):
    trained, measured = (snapshot(tmp_path, digit * 12) for digit in "ab")
    codes = "+".join(code_digest(path / "aimv2") for path in (trained, measured))
    index.add(tmp_path, "v2-0123456789ab", Entry("done", 1, layout=2, code=codes))
    assert prune(tmp_path) == set()


def test_prune_knows_a_snapshot_that_was_made_by_freeze(tmp_path):
    made = freeze(tmp_path)
    assert prune(tmp_path) == set(), "it was used today"
    aged(made, 2)
    assert prune(tmp_path) == {f"code/{made.name}"}


def test_prune_touches_nothing_in_a_home_folder(tmp_path):
    """With runs_dir pointing there, it erased code/thesis and workers/photos."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    theirs = [
        "code/thesis/chapter.tex",
        "code/0123456789ab/main.c",
        "code/abcdefabcdef/frozen.json",
        "code/fedcbafedcba/frozen.json",
        "code/.snapshot-old/main.c",
        "code/.git/HEAD",
        "workers/photos/ada.jpg",
        "workers/0123456789ab/payroll.csv",
        "workers/team-0123456789ab/payroll.csv",
        "launches/rocket/plan.txt",
        "launches/apollo-0123456789ab/plan.txt",
        "v2-0123456789ab/attempts/0001/checkpoint.safetensors",
        "v2-beta/attempts/0001/checkpoint.safetensors",
        "v2-abcdefabcdef/config.json",
        "v2-abcdefabcdef/attempts/first/checkpoint.safetensors",
        "v2-abcdefabcdef/result.json",
    ]
    for path in theirs:
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text("{}" if path.endswith("json") else "x")
    snapshot(elsewhere, "a" * 12)
    logs(elsewhere, "a" * 12, 9)
    launch_that_ended(elsewhere)
    for folder in ("code", "workers", "launches"):  # links to what would be deleted where it is
        for path in (elsewhere / folder).iterdir():
            (home / folder / path.name).symlink_to(path)
    aged(home, 400)
    before = sorted((path, path.lstat().st_mtime_ns) for root in (home, elsewhere) for path in root.rglob("*"))
    assert prune(home) == set()
    assert sorted((path, path.lstat().st_mtime_ns) for root in (home, elsewhere) for path in root.rglob("*")) == before


def test_prune_follows_no_link_to_a_folder(cells, attempt, tmp_path):
    elsewhere, runs_dir = tmp_path / "elsewhere", tmp_path / "runs"
    run = RunFolder(elsewhere, cells[1].name)
    attempt(run, cells[1].config).with_name(".checkpoint").mkdir()
    snapshot(elsewhere, "a" * 12)
    logs(elsewhere, "a" * 12, 9)
    launch_that_ended(elsewhere)
    runs_dir.mkdir()
    for name in ("code", "workers", "launches", run.name):
        (runs_dir / name).symlink_to(elsewhere / name)
    assert prune(runs_dir) == set()
    kinds = {path.split("/")[0] for path in prune(elsewhere)}
    assert kinds == {run.name, "launches", "code", "workers"}, "it is what was typed"


def test_a_link_in_the_place_of_a_checkpoint_stays(cells, attempt, tmp_path):
    run = RunFolder(tmp_path, cells[1].name)
    linked = attempt(run, cells[1].config, end=lambda taken: taken.publish({}, train_flops=0))
    (tmp_path / "moved").touch()
    shutil.rmtree(linked)
    linked.symlink_to(tmp_path / "moved")
    assert prune(tmp_path) == set()
    assert linked.is_symlink()


def test_prune_watches_a_heartbeat_instead_of_dating_it(cells, attempt, tmp_path):
    """A launch was removed at 60 s between the clocks of two hosts."""
    run = RunFolder(tmp_path, cells[1].name)
    finished = attempt(run, cells[1].config, end=lambda taken: taken.publish({}, train_flops=0))
    finished.touch()
    living, died = launch_that_ended(tmp_path), launch_that_ended(tmp_path)
    for folder in (living, died, finished.parent):
        (folder / "released").unlink()
        on_another_host(folder)
    aged(living, 2)
    aged(died, 2)
    seconds, notes = [0.0], []

    def pause(_):
        """Let ten seconds pass; the processes of one launch and of the run beat, by a clock that is years behind."""
        seconds[0] += 10
        for folder in (living, finished.parent):
            with (folder / "heartbeat").open("ab") as heartbeat:
                heartbeat.write(b"x")
            os.utime(folder / "heartbeat", (0, 0))

    found = unneeded(tmp_path, watch=Watch(now=lambda: seconds[0]), note=notes.append, pause=pause)
    assert notes == ["watching 3 heartbeats for up to 90 s"]
    assert seconds == [90]
    assert found == [died]


def test_workers_are_watched_once_their_launcher_is_dead(tmp_path):
    """A launch with a living launcher takes one watch, whatever the number of its workers."""
    launch = launch_that_ended(tmp_path)
    workers = [launch / "workers" / name for name in "abc"]
    for folder in (launch, *workers):
        folder.mkdir(parents=True, exist_ok=True)
        Presence(folder)
        (folder / "released").unlink(missing_ok=True)
        on_another_host(folder)
    aged(launch, 2)
    seconds, notes, beating = [0.0], [], [launch]

    def pause(_):
        seconds[0] += 10
        for folder in beating:
            with (folder / "heartbeat").open("ab") as heartbeat:
                heartbeat.write(b"x")
            os.utime(folder / "heartbeat", (0, 0))

    def find():
        return unneeded(tmp_path, watch=Watch(now=lambda: seconds[0]), note=notes.append, pause=pause)

    assert (find(), notes) == ([], ["watching 1 heartbeats for up to 90 s"])
    beating[:] = [workers[2]]
    notes.clear()
    assert (find(), notes) == ([], [f"watching {n} heartbeats for up to 90 s" for n in (1, 3)])
    beating.clear()
    assert find() == [launch]


def test_a_launch_that_is_submitting_its_jobs_stays(tmp_path):
    launch, seconds = new_launch(tmp_path, "other", []), count(step=100)
    watch = Watch(now=lambda: next(seconds))
    assert prune(tmp_path, print, watch=watch) == set()
    aged(launch, 2)
    assert prune(tmp_path, print, watch=watch) == {str(launch.relative_to(tmp_path))}


def test_a_launch_on_slurm_stays_until_it_is_abandoned(tmp_path):
    launch = new_launch(tmp_path, "other", [])
    write_jobs(launch, Jobs({"7": 1}, "8", "here"))
    aged(launch, 2)
    assert unneeded(tmp_path) == []
    assert unneeded(tmp_path, [launch]) == [launch]
