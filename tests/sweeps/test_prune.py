"""Pruning: what is deleted, and what stays."""

import errno
import json
import os
import shutil
import time
from itertools import count

import pytest

from ablations.expand import expand
from ablations.studies.prefix_ratio import STUDY
from aimv2.model.network import build
from aimv2.runs.attempt import CHECKPOINT
from aimv2.runs.failure import Failure
from aimv2.runs.lease import Presence
from aimv2.runs.provenance import digest, digest_of
from aimv2.runs.record import RunFolder
from aimv2.training import checkpoint
from aimv2.training.optimizer import build_optimizer
from sweeps.active_launches import Jobs, at_work, new_launch, new_logs, write_jobs
from sweeps.freeze import freeze
from sweeps.prune import Pruner


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
            checkpoint.save(taken.folder, model, optimizer, checkpoint.Progress())
            end(taken)
        return taken.folder / CHECKPOINT

    return make


def made_by(checkpoint_path, code):
    """Make it a checkpoint of other code, which this code cannot resume from."""
    content = checkpoint_path.read_bytes()
    assert digest().encode() in content
    checkpoint_path.write_bytes(content.replace(digest().encode(), code.encode()))
    return checkpoint_path


def never(seconds):
    pytest.fail("no heartbeat is in doubt")


def prune(runs_dir, wait=never, **more):
    """Delete what is not needed; return the paths by kind, relative to the folder."""
    pruner = Pruner(runs_dir, **more)
    pruner.wait(lambda note: None, wait)
    found = pruner.unneeded()
    assert pruner.delete(found) == []
    kinds = dict.fromkeys(one.kind for one in found)
    return {kind: {str(one.path.relative_to(runs_dir)) for one in found if one.kind == kind} for kind in kinds}


def launch_that_ended(runs_dir):
    """Make the record of a launch whose processes have ended, but which is still there."""
    folder = new_launch(runs_dir, "other", {})
    Presence(folder).release()
    return folder


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
    first, second = attempt(stopped, cells[1].config), attempt(stopped, cells[1].config)
    finished = attempt(done, cells[0].config, end=lambda taken: taken.publish({}, train_flops=0))
    finished.touch()  # publishing deletes it, unless the process is killed at this moment
    failed = attempt(held, cells[2].config, end=lambda taken: taken.fail(Failure("bug", "x"), ""))
    older, newer = attempt(wanted, cells[3].config), attempt(wanted, cells[3].config)
    died = launch_that_ended(runs_dir)
    with held.acquire(cells[2].config), at_work(runs_dir, "other", {wanted.name: 0}):
        found = prune(runs_dir)
    assert found == {
        "checkpoints": {str(path.relative_to(runs_dir)) for path in (first, finished)},
        "launches": {str(died.relative_to(runs_dir))},
    }
    assert [path.exists() for path in (first, second, finished, failed)] == [False, True, False, True]
    assert older.exists()
    assert newer.exists()
    assert done.is_done
    assert not died.exists()
    assert prune(runs_dir).keys() == {"checkpoints"}, "no launch is active on the others now"
    assert [path.exists() for path in (second, failed, older, newer)] == [True, True, False, True]
    assert prune(runs_dir) == {}


def test_prune_keeps_the_checkpoint_of_the_next_attempt(cells, attempt, tmp_path):
    """The newest is broken and the one before it is of other code, so the next attempt resumes from the first."""
    run, config = RunFolder(tmp_path, cells[1].name), cells[1].config
    usable, foreign, broken = (attempt(run, config) for _ in range(3))
    made_by(foreign, "0" * 12)
    broken.write_bytes(broken.read_bytes()[:-8] + b"********")
    prune(tmp_path)
    assert [path.exists() for path in (usable, foreign, broken)] == [True, False, False]
    with run.acquire(config) as taken:
        assert checkpoint.find(taken.earlier()).attempt == 1


def test_prune_keeps_all_checkpoints_of_a_run_if_this_code_can_use_none(cells, attempt, tmp_path):
    run = RunFolder(tmp_path, cells[1].name)
    foreign = [made_by(attempt(run, cells[1].config), "0" * 12) for _ in range(2)]
    assert prune(tmp_path) == {}
    assert all(path.exists() for path in foreign)


def test_prune_deletes_code_snapshots_and_logs_that_are_not_needed(cells, attempt, tmp_path):
    runs_dir = tmp_path
    needed, unneeded, fresh = (snapshot(runs_dir, digit * 12, days) for digit, days in (("a", 9), ("b", 9), ("c", 0)))
    unfinished = runs_dir / "code" / f".snapshot-{'d' * 32}"
    unfinished.mkdir()
    aged(unfinished, 9)
    made_by(attempt(RunFolder(runs_dir, cells[1].name), cells[1].config), digest_of(needed / "aimv2"))
    young, old, of_slurm = (
        logs(runs_dir, "1" * 12, 6),
        logs(runs_dir, "2" * 12, 8),
        logs(runs_dir, f"eos-{'3' * 12}", 8),
    )
    with at_work(runs_dir, "other", {}):
        assert prune(runs_dir) == {}, "workers of an active launch may need the code and write the logs"
    found = prune(runs_dir)
    assert found == {
        "code snapshots": {f"code/{'b' * 12}", f"code/.snapshot-{'d' * 32}"},
        "logs": {f"workers/{'2' * 12}", f"workers/eos-{'3' * 12}"},
    }
    assert [path.exists() for path in (needed, unneeded, unfinished, fresh)] == [True, False, False, True]
    assert [path.exists() for path in (young, old, of_slurm)] == [True, False, False]


def test_prune_knows_a_snapshot_that_was_made_by_freeze(tmp_path):
    made = freeze(tmp_path)
    assert prune(tmp_path) == {}, "it was used today"
    aged(made, 2)
    assert prune(tmp_path) == {"code snapshots": {f"code/{made.name}"}}


def test_item_1_prune_touches_nothing_in_a_home_folder(tmp_path):
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
    assert prune(home) == {}
    assert sorted((path, path.lstat().st_mtime_ns) for root in (home, elsewhere) for path in root.rglob("*")) == before
    assert Pruner(home).foreign() == {"code": 7, "workers": 4, "launches": 3}


def test_item_1_prune_follows_no_link_to_a_folder(cells, attempt, tmp_path):
    elsewhere, runs_dir = tmp_path / "elsewhere", tmp_path / "runs"
    run = RunFolder(elsewhere, cells[1].name)
    for _ in range(2):
        attempt(run, cells[1].config)
    snapshot(elsewhere, "a" * 12)
    logs(elsewhere, "a" * 12, 9)
    launch_that_ended(elsewhere)
    runs_dir.mkdir()
    for name in ("code", "workers", "launches", run.name):
        (runs_dir / name).symlink_to(elsewhere / name)
    assert prune(runs_dir) == {}
    assert prune(elsewhere).keys() == {"checkpoints", "launches", "code snapshots", "logs"}, "it is what was typed"


def test_a_link_in_the_place_of_a_checkpoint_stays(cells, attempt, tmp_path):
    run = RunFolder(tmp_path, cells[1].name)
    linked, _ = attempt(run, cells[1].config), attempt(run, cells[1].config)
    linked.rename(tmp_path / "moved")
    linked.symlink_to(tmp_path / "moved")
    assert prune(tmp_path) == {}
    assert linked.is_symlink()


def test_item_14_prune_watches_a_heartbeat_instead_of_dating_it(cells, attempt, tmp_path):
    """A launch was removed at 60 s between the clocks of two hosts."""
    run = RunFolder(tmp_path, cells[1].name)
    finished = attempt(run, cells[1].config, end=lambda taken: taken.publish({}, train_flops=0))
    finished.touch()
    living, died = launch_that_ended(tmp_path), launch_that_ended(tmp_path)
    for folder in (living, died, finished.parent):
        (folder / "released").unlink()
        on_another_host(folder)
    seconds, notes = [0.0], []

    def pause(_):
        """Let ten seconds pass; the processes of one launch and of the run beat, by a clock that is years behind."""
        seconds[0] += 10
        for folder in (living, finished.parent):
            with (folder / "heartbeat").open("ab") as heartbeat:
                heartbeat.write(b"x")
            os.utime(folder / "heartbeat", (0, 0))

    pruner = Pruner(tmp_path, now=lambda: seconds[0])
    assert pruner.unneeded() == [], "none was watched yet"
    pruner.wait(notes.append, pause)
    assert notes == ["watching 3 heartbeats for 90 s"]
    assert seconds == [90]
    assert [one.path for one in pruner.unneeded()] == [died]


def test_prune_does_not_wait_where_no_heartbeat_is_in_doubt(cells, attempt, tmp_path):
    attempt(RunFolder(tmp_path, cells[1].name), cells[1].config)
    with at_work(tmp_path, "other", {}):
        Pruner(tmp_path).wait(pytest.fail, never)


def test_what_came_into_use_while_prune_asked_stays(tmp_path):
    old, code = logs(tmp_path, "a" * 12, 8), snapshot(tmp_path, "b" * 12)
    pruner = Pruner(tmp_path)
    shown = pruner.unneeded()
    assert {one.path for one in shown} == {old, code}
    with at_work(tmp_path, "other", {}):
        assert pruner.delete(shown) == []
    assert old.exists()
    assert code.exists()


def test_a_launch_that_is_submitting_its_jobs_stays(tmp_path):
    launch, seconds = new_launch(tmp_path, "other", {}), count(step=100)
    assert prune(tmp_path, print, now=lambda: next(seconds)) == {}
    aged(launch, 2)
    assert prune(tmp_path, print, now=lambda: next(seconds)) == {"launches": {str(launch.relative_to(tmp_path))}}


def test_a_launch_on_slurm_stays_until_it_is_abandoned(tmp_path):
    launch = new_launch(tmp_path, "other", {})
    write_jobs(launch, Jobs({"7": 1}, "8", "here"))
    assert prune(tmp_path) == {}
    assert [one.path for one in Pruner(tmp_path, frozenset({launch})).unneeded()] == [launch]


def test_what_cannot_be_deleted_is_named_and_the_rest_goes(tmp_path, monkeypatch):
    first, second = logs(tmp_path, "a" * 12, 8), logs(tmp_path, "b" * 12, 8)
    rmtree = shutil.rmtree

    def refuse(path):
        if path == first:
            raise PermissionError(errno.EACCES, "Permission denied")
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    pruner = Pruner(tmp_path)
    assert pruner.delete(pruner.unneeded()) == [f"{first}: Permission denied"]
    assert not second.exists()
