"""A SLURM of two nodes on this host, and commands typed there."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from aimv2.config.recipes.scales import SCALES
from aimv2.data.prepare import prepare
from aimv2.request.resolve import resolve

HERE = Path(__file__).parent
SWEEPS = HERE.parents[1] / "sweeps"
MAX_WAIT_S = 600  # only what hangs takes so long
NEEDED = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd")
# Runs of the demo's model that take seconds each.
SMALL = (
    "budget.samples=4096",
    "checkpoint.every_seconds=1",
    "data.sources=[fontawesome,openmoji]",
    "evaluation.num_items=256",
    "evaluation.num_pairs=256",
    "evaluation.num_probe_scenes=256",
    "evaluation.curve_pairs=64",
    "evaluation.curve_points=3",
    "evaluation.probe.epochs=1",
    "sweep.controls=[]",
)


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slurm)


@dataclass(frozen=True)
class Slurm:
    """The cluster, through SLURM's own commands."""

    folder: Path

    def __call__(self, *words: str) -> str:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=MAX_WAIT_S).stdout

    def queue(self) -> list[list[str]]:
        """Return the id and the reason of every job and array element in the queue."""
        return [line.split("|") for line in self("squeue", "--noheader", "--array", "--format=%i|%r").splitlines()]

    def wait_until_empty(self) -> None:
        _wait_for(lambda: not self.queue())


def _wait_for(find: Callable[[], Any]) -> Any:
    """Return what ``find`` returns once that is true."""
    deadline = time.monotonic() + MAX_WAIT_S
    while not (found := find()):
        assert time.monotonic() < deadline, f"nothing after {MAX_WAIT_S} s"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="session")
def wait_for():
    return _wait_for


@pytest.fixture(scope="session")
def slurm():
    if os.geteuid() != 0 or not all(map(shutil.which, NEEDED)):
        pytest.exit("these tests need root, and: apt-get install slurm-wlm munge slurmdbd mariadb-server", returncode=2)
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # the database's user cannot read pytest's folders
    subprocess.run([HERE / "one_host.sh", "start", folder], check=True, timeout=MAX_WAIT_S)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    found, is_over = Slurm(folder), threading.Event()
    administrator = threading.Thread(target=_hurry, args=(found, is_over))
    administrator.start()
    yield found
    is_over.set()
    administrator.join()
    subprocess.run([HERE / "one_host.sh", "stop", folder], check=True, timeout=MAX_WAIT_S)
    shutil.rmtree(folder)


def _hurry(slurm: Slurm, is_over: threading.Event) -> None:
    """Act as an administrator: start requeued jobs, which wait for two minutes, and release held ones."""
    while not is_over.wait(1.0):
        for job, reason in slurm.queue():
            with contextlib.suppress(subprocess.CalledProcessError):  # it is in another state by now
                if reason == "BeginTime":
                    slurm("scontrol", "update", f"JobId={job}", "StartTime=now")
                elif "held" in reason:
                    slurm("scontrol", "release", job)


@pytest.fixture(scope="session")
def prepared(cache_dir):
    """Render the pairs, so that no launch waits for them."""
    run = SCALES["demo"]()
    run = resolve(replace(run, data=replace(run.data, sources=("fontawesome", "openmoji"), cache_dir=cache_dir)))
    prepare(run.data, run.model.vocab_size)


@pytest.fixture(scope="session")
def typed(cache_dir, prepared):
    """Type a command in a folder; return the completed process."""

    def run(folder, script, *words, **options):
        if script == "launch.py":
            replaced = {word.partition("=")[0] for word in words}
            small = [word for word in SMALL if word.partition("=")[0] not in replaced]
            words = (f"data.cache_dir={cache_dir}", *small, *words)
        command = [sys.executable, str(SWEEPS / script), *words]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=MAX_WAIT_S, **options)

    return run
