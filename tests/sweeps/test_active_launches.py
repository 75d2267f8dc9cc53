"""Active launches, and workers of a cancelled one."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

from aimv2.base.errors import UsageError
from aimv2.base.interrupt import Interrupts
from aimv2.runs.lease import Presence
from aimv2.runs.record import RunFolder
from aimv2.sweeps.active_launches import active_launches, at_work, cancel, cancelled, new_launch
from aimv2.sweeps.plan import Task, Work
from aimv2.sweeps.worker import Worker


@contextmanager
def worker_of(launch_dir):
    """Be a worker of a launch."""
    own = launch_dir / "workers" / "one"
    own.mkdir(parents=True)
    with Presence(own):
        yield


def test_a_launch_is_active_within_its_context(tmp_path, monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    with at_work(tmp_path, "one", ["b", "a"]) as folder:
        (found,) = active_launches(tmp_path)
        assert (found.folder, found.study, found.runs) == (folder, "one", {"a", "b"})
        assert (found.owner, found.host) == ("ada", socket.gethostname())
        assert time.mktime(time.strptime(found.started, "%Y-%m-%d %H:%M")) == pytest.approx(time.time(), abs=3600)
    assert active_launches(tmp_path) == []
    assert not folder.exists()


def test_a_folder_that_is_no_launch_is_none(tmp_path):
    (tmp_path / "launches" / "photos").mkdir(parents=True)
    (tmp_path / "launches" / "notes-0123456789ab").mkdir()
    assert active_launches(tmp_path) == []


def test_a_launch_that_has_ended_is_not_cancelled(tmp_path):
    with at_work(tmp_path, "one", ["a"]):
        (found,) = active_launches(tmp_path)
    assert not cancel(found, ["a"])
    assert list((tmp_path / "launches").iterdir()) == []


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_cancelled_worker_releases_its_run_unless_another_sweep_wants_it(tiny, tmp_path, is_shared):
    configs = [replace(tiny, seed=seed) for seed in (0, 1)]
    tasks = [Task(config.name, config, after=0) for config in configs]

    with at_work(tmp_path, "one", [task.name for task in tasks]) as folder:

        def stop(rows):
            if rows[-1]["step"] == 1:
                cancel(active_launches(tmp_path)[0], [tasks[1].name] if is_shared else [task.name for task in tasks])

        report = Worker(Work(tasks), folder, stop, interrupts=Interrupts(poll_seconds=0)).work()
        assert cancelled(folder) is not None
    assert report.signal is None
    first, second = (RunFolder(tmp_path, task.name) for task in tasks)
    assert second.num_attempts == 0, "no further run is started"
    assert first.is_done == is_shared
    assert report.done == ([first.name] if is_shared else [])
    assert (first.path / "attempts/0001/checkpoint").exists() != is_shared


def test_a_launch_without_its_launcher_is_active_while_a_worker_is(tmp_path):
    folder = new_launch(tmp_path, "one", ["a"])
    Presence(folder).release()
    assert active_launches(tmp_path) == []
    with worker_of(folder):
        (found,) = active_launches(tmp_path)
        assert cancelled(folder) is None
        cancel(found, ["a"])
        assert cancelled(folder) == {"a"}
    assert active_launches(tmp_path) == []


@pytest.mark.exhaustive
def test_looking_while_launches_end_is_no_error(tmp_path):
    def launch():
        for _ in range(100):
            with at_work(tmp_path, "one", ["a"]) as folder, worker_of(folder):
                pass

    with ThreadPoolExecutor() as pool:
        busy = pool.submit(launch)
        while not busy.done():
            active_launches(tmp_path)
        busy.result()


def test_a_broken_record_is_reported_with_its_path(tmp_path):
    with at_work(tmp_path, "one", ["a"]) as folder:
        (folder / "launch.json").write_text("{}")
        with pytest.raises(UsageError, match="is not the record of a launch"):
            active_launches(tmp_path)
