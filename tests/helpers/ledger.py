"""Runs in every state, and counts of file operations in their folder.

An operation is a call that a file server may have to answer: open, stat, list, make (a folder or a link), rename,
remove, touch (time, size or permissions) and sync. Calls of libraries that do not use Python's files are not seen.
"""

import contextlib
import os
import shutil
import sys
from collections import Counter
from unittest import mock

from aimv2.definitions.metrics import Metric
from aimv2.runs import index
from aimv2.runs.failure import Failure
from aimv2.runs.index import Entry
from aimv2.runs.record import RunFolder

AUDITED = {  # kinds of operations by Python's audit events, whose first argument is a path or a descriptor
    "open": "open", "os.listdir": "list", "os.scandir": "list", "os.mkdir": "make", "os.link": "make",
    "os.symlink": "make", "os.rename": "rename", "os.remove": "remove", "os.rmdir": "remove", "os.utime": "touch",
    "os.truncate": "touch", "os.chmod": "touch",
}  # fmt: skip
UNAUDITED = {"stat": "stat", "lstat": "stat", "access": "stat", "fsync": "sync"}  # functions of os without an event

_active = []  # folders whose operations are counted now, with their counts


def _count(kind, path, dir_fd=-1):
    if not _active:
        return
    with contextlib.suppress(OSError, TypeError):  # a descriptor that is no file's
        folder = "" if dir_fd < 0 else os.readlink(f"/proc/self/fd/{dir_fd}")
        name = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fsdecode(path)
        for root, counts in _active:
            if f"{os.path.abspath(os.path.join(folder, name))}/".startswith(f"{root}/"):
                counts[kind] += 1


def _audit(event, arguments):
    if event in AUDITED:
        _count(AUDITED[event], *arguments[: 2 if event in ("os.remove", "os.rmdir") else 1])


sys.addaudithook(_audit)  # it cannot be removed


def _counting(name):
    call = getattr(os, name)

    def counting(path, *arguments, **more):
        if name == "fsync" or not isinstance(path, int):  # the attributes of an open file are known
            _count(UNAUDITED[name], path)
        return call(path, *arguments, **more)

    return counting


@contextlib.contextmanager
def counted(folder):
    """Count operations on this folder by kind within the context, those of all threads."""
    active = os.path.realpath(folder), Counter()
    with contextlib.ExitStack() as patches:
        for name in UNAUDITED:
            patches.enter_context(mock.patch.object(os, name, _counting(name)))
        _active.append(active)
        try:
            yield active[1]
        finally:
            _active.pop()


def write_runs(plan, names, num_rows=300):
    """Write runs of a plan by the state that they are to have: done, failed, interrupted or running.

    One of each state is written by the project's own classes, the others are its copies. This process holds the running
    ones, and nothing beats for them.
    """
    for state, (first, *others) in names.items():
        _write(plan, first, state, num_rows)
        entry = index.read(plan.runs_dir)[first]
        for name in others:
            shutil.copytree(plan.runs_dir / first, plan.runs_dir / name, copy_function=os.link)
            index.add(plan.runs_dir, name, entry)


def _write(plan, name, state, num_rows):
    config = plan.cell_of[name].config
    attempt = RunFolder(plan.runs_dir, name).acquire(config)
    times = {"images_per_second": 100.0, "learning_rate": 1e-4, "gradient_norm": 1.0, "step_cpu_seconds": 0.5}
    samples = config.budget.samples / num_rows
    rows = [{"step": n, "samples": int(n * samples), "text_loss": 3.0, "seconds": n * 0.5} for n in range(num_rows)]
    with contextlib.suppress(KeyboardInterrupt), attempt:
        attempt.write_rows([row | times for row in rows])
        attempt.write_manifest({"hardware": "none", "code": "0" * 12})
        if state == "done":
            metrics = {"caption_loss": Metric(1.0, "nats/token", "none")}
            attempt.publish(metrics, train_flops=1, train_seconds=1.0, mixture={})
            attempt.remove_unfinished()
        elif state == "failed":
            attempt.fail(Failure("bug", "ValueError: a test"), "Traceback")
        elif state == "interrupted":
            raise KeyboardInterrupt
    if state == "running":
        (attempt.folder / "released").unlink()
        index.remove(plan.runs_dir, name, Entry("idle", 1))
        index.add(plan.runs_dir, name, Entry("running", 1))
