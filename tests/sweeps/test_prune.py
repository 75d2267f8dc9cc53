"""Pruning: what is deleted, and what stays."""

import os
import time

import pytest

from ablations.expand import expand
from ablations.studies.prefix_ratio import STUDY
from aimv2.model.network import build
from aimv2.runs.failure import Failure
from aimv2.runs.lease import Presence
from aimv2.runs.provenance import digest, digest_of
from aimv2.runs.record import CHECKPOINT, RunFolder
from aimv2.training import checkpoint
from aimv2.training.optimizer import build_optimizer
from sweeps.active_launches import at_work
from sweeps.prune import prune


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


def test_prune_deletes_checkpoints_that_no_attempt_will_use(cells, attempt, tmp_path):
    runs_dir = tmp_path
    done, stopped, held, wanted = (RunFolder(runs_dir, cell.name) for cell in cells[:4])
    first, second = attempt(stopped, cells[1].config), attempt(stopped, cells[1].config)
    finished = attempt(done, cells[0].config, end=lambda taken: taken.publish({}, train_flops=0))
    failed = attempt(held, cells[2].config, end=lambda taken: taken.fail(Failure("bug", "x"), ""))
    older, newer = attempt(wanted, cells[3].config), attempt(wanted, cells[3].config)
    died = runs_dir / "launches" / "died"
    died.mkdir(parents=True)
    Presence(died)
    os.utime(died / "heartbeat", (0, 0))
    unused = first.stat().st_size + finished.stat().st_size
    with held.acquire(cells[2].config), at_work(runs_dir, "other", {wanted.name: 0}):
        freed = prune(runs_dir)
    assert list(freed.values()) == [unused, 0, 0]
    assert [path.exists() for path in (first, second, finished, failed)] == [False, True, False, True]
    assert older.exists()
    assert newer.exists()
    assert done.is_done
    assert not died.exists()
    assert prune(runs_dir)["checkpoints"] > 0, "no launch is active on the others now"
    assert [path.exists() for path in (second, failed, older, newer)] == [True, True, False, True]
    assert not any(prune(runs_dir).values())


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
    assert not any(prune(tmp_path).values())
    assert all(path.exists() for path in foreign)


def test_prune_deletes_code_snapshots_and_logs_that_are_not_needed(cells, attempt, tmp_path):
    runs_dir = tmp_path

    def copy(content):
        path = runs_dir / "code" / content
        (path / "aimv2").mkdir(parents=True)
        (path / "aimv2" / "run.py").write_text(content)
        return path

    needed, unneeded, unfinished = copy("needed"), copy("unneeded"), copy(".partial")
    for path in (needed, unneeded, unfinished):
        os.utime(path, (0, 0))
    fresh = copy("fresh")
    made_by(attempt(RunFolder(runs_dir, cells[1].name), cells[1].config), digest_of(needed / "aimv2"))

    def log(name, days):
        path = runs_dir / "workers" / name / "123"
        path.mkdir(parents=True)
        (path / "123_0_log.err").write_text("x" * 1000)
        then = time.time() - 86400 * days
        for one in (path / "123_0_log.err", path, path.parent):
            os.utime(one, (then, then))
        return path.parent

    young, old = log("young", 6), log("old", 8)
    with at_work(runs_dir, "other", {}):
        assert not any(prune(runs_dir).values()), "workers of an active launch may need the code and write the logs"
    freed = prune(runs_dir)
    assert list(freed.values()) == [0, len("unneeded") + len(".partial"), 1000]
    assert [path.exists() for path in (needed, unneeded, unfinished, fresh)] == [True, False, False, True]
    assert [path.exists() for path in (young, old)] == [True, False]
