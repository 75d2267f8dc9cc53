"""Executors of another package: that of docs/extend.md, with processes in the place of pods, and one that submits."""

import re
import sys
from pathlib import Path

import pytest

from aimv2 import cli
from aimv2.sweeps import launch, manage
from aimv2.sweeps.active_launches import active_launches
from aimv2.sweeps.executors.registry import EXECUTORS, executor_class
from tests.helpers.pages import ROOT
from tests.helpers.sweeps import small_sweep
from tests.helpers.training import small_run

PAGE = ROOT / "docs/extend.md"
KUBECTL = """
import json, os, signal, subprocess, sys
from pathlib import Path

here, words = Path(__file__).parent / "pods", sys.argv[1:]
here.mkdir(exist_ok=True)
if words[0] == "apply":
    pod = json.load(sys.stdin)
    worker, mark = pod["spec"]["containers"][0], here / pod["metadata"]["name"]
    variables = os.environ | {one["name"]: one["value"] for one in worker["env"]}
    # A process that waits for it notes its end, as a kubelet does.
    start = (
        f"import subprocess; from pathlib import Path; child = subprocess.Popen({worker['command']!r});"
        f" Path({str(mark)!r}).write_text(str(child.pid)); Path({str(mark)!r} + '.ended').write_text(str(child.wait()))"
    )
    subprocess.Popen([sys.executable, "-c", start], cwd=worker["workingDir"], env=variables, start_new_session=True)
elif words[0] == "get":
    print("Succeeded" if (here / f"{words[2]}.ended").exists() else "Running", end="")
elif words[0] == "delete":
    for name in words[3:]:
        if (here / name).exists() and not (here / f"{name}.ended").exists():
            os.kill(int((here / name).read_text()), signal.SIGTERM)
"""

SHELF = """
from dataclasses import dataclass
from pathlib import Path

from aimv2.ablations.request import write_request
from aimv2.sweeps.active_launches import Jobs, Queued, new_launch, write_jobs
from aimv2.sweeps.executors.base import Executor
from aimv2.sweeps.executors.registry import executor
from aimv2.sweeps.plan import write_work


@executor("shelf")
@dataclass(frozen=True, kw_only=True)
class ShelfExecutor(Executor):
    file: str = "shelf"

    def num_workers(self, runs):
        return len(runs)

    def launch(self, plan, work, reports_dir, board):
        folder = new_launch(plan.runs_dir, plan.title, work.runs)
        write_work(folder, work)
        write_jobs(folder, Jobs({"a1": len(work.tasks)}, "f1", self.file, "shelf"))
        for request in plan.requests:
            write_request(plan.runs_dir, request)
        Path(self.file).write_text("a1 LYING dusty|a1 LYING dusty|f1 LYING behind")
        return False

    @staticmethod
    def queue(launch):
        file = Path(launch.jobs.cluster)
        return [Queued(*job.split()) for job in file.read_text().split("|") if job] if file.exists() else None

    @staticmethod
    def withdraw(launch):
        Path(launch.jobs.cluster).write_text("f1 LYING behind")
        return "f1 is glued to the shelf"
"""


@pytest.fixture
def shelf(tmp_path, monkeypatch, plugged):
    """Load an executor whose workers are jobs in a file, and are never done; return the file."""
    plugged(SHELF, "shelves.py")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "shelf"


@pytest.fixture
def pods(tmp_path, monkeypatch, plugged):
    """Load the executor of the page, and install a kubectl; return the folder of its pods."""
    source = re.search(r"^`kubernetes\.py`:\n\n```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)[1]
    folder = plugged(source, "kubernetes.py").parent
    (folder / "kubectl.py").write_text(KUBECTL)
    (folder / "kubectl").write_text(f'#!/bin/sh\nexec {sys.executable} {folder}/kubectl.py "$@"\n')
    (folder / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder / "pods"


def test_the_executor_of_the_page_is_found_and_its_fields_are_keys(pods, cache_dir, tiny, capsys):
    assert "kubernetes" in EXECUTORS
    assert executor_class("kubernetes")(workers=3).num_workers([tiny] * 9) == 3
    words = small_sweep(cache_dir, "executor=kubernetes", "dry_run=true")
    assert launch.main([*words, "executor.workers=3"]) == 0
    assert "3 workers" in capsys.readouterr().out, "with a time if other tests have done such runs"
    assert launch.main([*words, "executor.worker=3"]) == 2
    assert "Did you mean 'executor.workers'?" in capsys.readouterr().err


def test_help_lists_it(pods, capsys):
    assert launch.main(["--help"]) == 0
    assert "executor=debug|local|slurm|kubernetes" in capsys.readouterr().out


@pytest.mark.exhaustive
def test_the_executor_of_the_page_runs_a_sweep(pods, started, tmp_path):
    process = started("sweep.arms=[uniform]", "sweep.seeds=1", "executor=kubernetes", "executor.workers=2")
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert "2 runs done" in output
    assert len(list(pods.glob("*.ended"))) == 2
    logs = {path.name for path in tmp_path.glob("runs/workers/prefix_ratio-*/*.log")}
    assert logs == {f"{path.name.removeprefix('aimv2-').removesuffix('.ended')}.log" for path in pods.glob("*.ended")}
    assert (tmp_path / "reports/prefix_ratio/report.md").exists()


def test_status_cancel_and_prune_ask_an_executor_that_submits(shelf, cache_dir, capsys):
    assert launch.main(small_sweep(cache_dir, "executor=shelf", "sweep.arms=[uniform]", "sweep.seeds=1")) == 0
    assert "`python sweeps/manage.py status` shows their progress" in capsys.readouterr().out

    def shown(*words):
        assert manage.main(words) == 0
        return " ".join(capsys.readouterr().out.split())

    assert "2 workers as array a1: 2 LYING (dusty)" in shown("status")
    shelf.rename("elsewhere")
    assert "2 workers as array a1: UNKNOWN, shelf does not answer on this host" in shown("status")
    Path("elsewhere").rename(shelf)
    assert "still in the queue: f1 is glued to the shelf" in shown("cancel", "prefix_ratio", "yes=true")
    assert len(active_launches(Path("runs"))) == 1
    shelf.write_text("")
    assert "2 workers as array a1: no job of it is in the queue of shelf any more" in shown("status")
    assert "prefix_ratio has no active launch" in shown("cancel", "prefix_ratio", "yes=true")
    assert active_launches(Path("runs")) == []


def test_train_submits_to_it(shelf, cache_dir, capsys):
    assert cli.main(["train", *small_run(cache_dir, "executor=shelf")]) == 0
    shown = capsys.readouterr().out
    assert "`cancel train` ends your single runs, and the same command prints the result once they are done" in shown
    (found,) = active_launches(Path("runs"))
    assert (found.study, found.jobs.arrays) == ("train", {"a1": 2})
