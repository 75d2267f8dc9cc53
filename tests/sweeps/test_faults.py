"""Two faults of each of thirteen kinds, at random places of a study of 12 runs and a search, with two launchers.

Each fault costs what it hit and no more: in the end all runs are done, with the values of undisturbed ones to the last
bit, the search has exactly its trials, and files of others are as they were. The seed is printed, and the same in CI;
AIMV2_FAULTS repeats one.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from aimv2.runs.record import RUN_NAME, RunFolder
from aimv2.runs.rows import OF_MACHINE
from aimv2.sweeps.active_launches import active_launches
from tests.helpers.sweeps import small_sweep

LAUNCH = Path(__file__).parents[2] / "sweeps" / "launch.py"
NUM_FAULTS = 26
DISK_MB = 256
LONG = ("budget.samples=512", "loader.num_workers=1", "checkpoint.every_seconds=1")
STUDY = ("sweep.arms=[uniform,causal]", "sweep.seeds=4", *LONG)
SEARCH = ("search=optuna", "search.trials=4", "search.sampler=random", "sweep.seeds=1", *LONG)


def commands(cache_dir):
    """Return the arguments of a launch of the study, and of one of the search over a space of four points."""
    return small_sweep(cache_dir, *STUDY), small_sweep(cache_dir, *SEARCH, sweep="norm_ffn")


def launch(folder, arguments, output, *more):
    command = [sys.executable, str(LAUNCH), *arguments, *more]
    return subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, start_new_session=True)


def values_of(runs_dir):
    """Return the rows and final metrics of every finished run, by its name."""
    found = {}
    names = (path.parent.name for path in runs_dir.glob("v2-*/result.json"))
    for run in (RunFolder(runs_dir, name) for name in sorted(names) if RUN_NAME.fullmatch(name)):
        rows = run.metrics().drop(columns=list(OF_MACHINE), errors="ignore").to_json(double_precision=15)
        found[run.name] = (rows, {name: one["value"] for name, one in run.result()["metrics"].items()})
    return found


def processes(folder, word=b"aimv2.sweeps.worker"):
    """Return the workers that run in a folder, and the processes that they have started, as pids.

    Args:
        word: in the command line of other processes than workers.
    """
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            if word in (path / "cmdline").read_bytes() and (path / "cwd").resolve() == folder:
                parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    return (
        sorted(pid for pid, parent in parents.items() if parent not in parents),
        sorted(pid for pid, parent in parents.items() if parent in parents),
    )


class Launcher:
    """Types the commands, one after the other, and each again until it succeeds."""

    def __init__(self, folder, name, arguments):
        self.folder, self.log, self.arguments = folder, folder / f"{name}.log", arguments
        self.statuses, self.on_failure = Counter(), lambda: None
        self._place, self.process = 0, None

    def poll(self):
        """Start what is to be started next. Return False once all has succeeded."""
        if self.process is not None and (status := self.process.poll()) is not None:
            self.statuses[status] += 1
            self._place, self.process = self._place + (status == 0), None
            if status > 0:
                self.on_failure()
        if self.process is None and self._place < len(self.arguments):
            with self.log.open("a") as output:
                self.process = launch(self.folder, self.arguments[self._place], output, "executor.workers=1")
        return self.process is not None

    def again(self):
        self._place = 0 if self.process is None else self._place


class Faults:
    """The faults. Each method does one and returns True, or False where there is nothing that it could hit."""

    def __init__(self, folder, draw, launchers, *, has_disk):
        self.folder, self.runs_dir, self.draw, self.launchers = folder, folder / "runs", draw, launchers
        self.counts = dict.fromkeys((name for name in vars(Faults) if not name.startswith("_")), 0)
        if not has_disk:
            del self.counts["full_disk"]
        self._stopped, self._filler, self._garbage, self._blocked = set(), None, [], []

    def _inject(self):
        """Do a fault of one of the kinds that there were fewest of; return its name, or None if none fits."""
        kinds = sorted(self.counts, key=lambda name: (self.counts[name], self.draw.random()))
        found = next((name for name in kinds if getattr(self, name)()), None)
        if found is not None:
            self.counts[found] += 1
        return found

    def _free(self):
        """End what lasts: wake stopped processes and make space."""
        for pid in self._stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._stopped.clear()
        if self._filler is not None:
            self._filler.unlink(missing_ok=True)
            self._filler = None

    def _repair(self):
        """Do what the messages say."""
        self._free()
        for path in self._garbage:
            shutil.rmtree(path.parent, ignore_errors=True)
        for path in self._blocked:
            path.unlink()
        self._garbage, self._blocked = [], []

    def _signal(self, pids, number):
        if not pids:
            return False
        pid = self.draw.choice(pids)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            if number == signal.SIGSTOP:
                self._stopped.add(pid)
        return True

    def _done(self):
        """Return the results of the study. Those of trials are in the search's folder, and are not measured again."""
        paths = (self.runs_dir / name / "result.json" for name in self._requested("prefix_ratio"))
        return [path for path in sorted(paths) if path.exists() and path not in self._garbage]

    def _requested(self, study="*"):
        """Return the names of the runs that were requested."""
        names = set()
        for path in self.runs_dir.glob(f"studies/{study}/*.json"):
            with contextlib.suppress(OSError, ValueError):  # a full disk
                names.update(cell["run"] for cell in json.loads(path.read_text())["cells"])
        return names

    def _running(self):
        return [one.process.pid for one in self.launchers if one.process is not None]

    def killed_worker(self):
        return self._signal(processes(self.folder)[0], signal.SIGKILL)

    def terminated_worker(self):
        return self._signal(processes(self.folder)[0], signal.SIGTERM)

    def stopped_worker(self):
        return self._signal(processes(self.folder)[0], signal.SIGSTOP)

    def killed_loader(self):
        return self._signal(processes(self.folder)[1], signal.SIGKILL)

    def killed_launcher(self):
        return self._signal(self._running(), signal.SIGKILL)

    def interrupted_launcher(self):
        return self._signal(self._running(), signal.SIGINT)

    def full_disk(self):
        if self._filler is not None:
            return False
        self._filler = self.runs_dir / "large file of somebody else"
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while file.write(bytes(1 << 16)):
                pass
        return True

    def deleted_result(self):
        if not (found := self._done()):
            return False
        self.draw.choice(found).unlink()
        return True

    def garbage_result(self):
        if not (found := self._done()):
            return False
        self._garbage.append(path := self.draw.choice(found))
        with contextlib.suppress(OSError):  # a full disk, which leaves an empty file
            path.write_text("garbage")
        return True

    def blocked_run(self):
        """A file lies where a run's folder is to be."""
        free = sorted(name for name in self._requested() if not (self.runs_dir / name).exists())
        if not free:
            return False
        path = self.runs_dir / self.draw.choice(free)
        try:
            path.open("x").close()
        except OSError:  # it has just been started, or the disk is full
            return False
        self._blocked.append(path)
        return True

    def deleted_index(self):
        shutil.rmtree(self.runs_dir / "index", ignore_errors=True)
        return True

    def partial_trial(self):
        """As of a worker that was killed while it wrote it."""
        for folder in self.runs_dir.glob("searches/*/"):
            with contextlib.suppress(OSError):
                (folder / f".0000.json.{self.draw.random()}").write_text('{"number":')
                return True
        return False

    def cut_checkpoint(self):
        found = sorted(self.runs_dir.glob("v2-*/attempts/*/checkpoint/*/*"))
        if not found:
            return False
        with contextlib.suppress(OSError):
            os.truncate(path := self.draw.choice(found), path.stat().st_size // 2)
        return True


@pytest.fixture
def undisturbed(tmp_path_factory, cache_dir):
    """Return the values of the runs of both launches, which nothing has disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for arguments in commands(cache_dir):
        with (folder / "launch.log").open("a") as output:
            assert launch(folder, arguments, output).wait() == 0, (folder / "launch.log").read_text()
    return values_of(folder / "runs")


@pytest.fixture
def disk(tmp_path):
    """Return the runs folder, on a small disk of its own where that is allowed, and whether it is."""
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(runs_dir)]
    has_disk = os.geteuid() == 0 and subprocess.run(mount, check=False).returncode == 0
    yield runs_dir, has_disk
    for pid in [pid for pids in processes(tmp_path, b"sweeps") for pid in pids]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if has_disk:
        subprocess.run(["umount", "--lazy", str(runs_dir)], check=True)


@pytest.mark.exhaustive
def test_each_fault_costs_what_it_hit_and_no_more(tmp_path, disk, cache_dir, undisturbed):
    seed = int(os.environ.get("AIMV2_FAULTS") or (0 if os.environ.get("CI") else random.randrange(10**6)))
    print(f"AIMV2_FAULTS={seed}")
    runs_dir, has_disk = disk
    theirs = {runs_dir / name: b"of somebody else" for name in ("notes.txt", "v2-mine/result.json", "searches.csv")}
    for path, content in theirs.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    draw, (study, search) = random.Random(seed), commands(cache_dir)
    launchers = [Launcher(tmp_path, "first", [study, search]), Launcher(tmp_path, "second", [search, study])]
    faults = Faults(tmp_path, draw, launchers, has_disk=has_disk)
    for one in launchers:
        one.on_failure = faults._repair
    while sum(faults.counts.values()) < NUM_FAULTS:
        if not sum(one.poll() for one in launchers):
            faults._repair()
            for one in launchers:
                one.again()
        # Faults hit what goes on: between them a run is done, or some seconds pass.
        until, before = time.monotonic() + draw.uniform(0, 15), len(faults._done())
        while len(faults._done()) == before and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(draw.uniform(0, 1))
        faults._free()
        for _ in range(draw.randint(1, 3)):
            name = faults._inject()
            print(f"{sum(faults.counts.values())}: {name}")
    faults._repair()
    for one in launchers:
        one.again()
    while sum(one.poll() for one in launchers):
        time.sleep(0.2)
    logs = "".join(one.log.read_text() for one in launchers)
    assert "Traceback" not in logs
    for arguments in (study, search):
        with (tmp_path / "last.log").open("a") as output:
            assert launch(tmp_path, arguments, output).wait() == 0, (tmp_path / "last.log").read_text()
    found = values_of(runs_dir)
    assert found.keys() == undisturbed.keys()
    assert [name for name in found if found[name] != undisturbed[name]] == []
    (outcome,) = runs_dir.glob("searches/*.json")
    states = Counter(trial["state"] for trial in json.loads(outcome.read_text())["trials"])
    assert states["finished"] == 4
    assert {path: path.read_bytes() for path in theirs} == theirs
    assert active_launches(runs_dir) == []
    assert min(faults.counts.values()) > 0, faults.counts
