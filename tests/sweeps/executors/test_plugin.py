"""The executor of docs/cluster.md, installed as another package's, with processes in the place of pods."""

import sys

import pytest

from sweeps import launch
from sweeps.executors.registry import executor_class, executor_names
from tests.helpers.pages import ROOT, blocks
from tests.helpers.plugins import install
from tests.helpers.sweeps import small_sweep

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


@pytest.fixture
def pods(tmp_path, monkeypatch):
    """Install the executor of the page, and a kubectl; return the folder of its pods."""
    (source,) = blocks(ROOT / "docs/cluster.md", ["python"])
    folder = install(tmp_path / "installed", "kubernetes", "clusters:KubernetesExecutor", monkeypatch, clusters=source)
    (folder / "kubectl.py").write_text(KUBECTL)
    (folder / "kubectl").write_text(f'#!/bin/sh\nexec {sys.executable} {folder}/kubectl.py "$@"\n')
    (folder / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder / "pods"


def test_the_executor_of_the_page_is_found_and_its_fields_are_keys(pods, cache_dir, tiny, capsys):
    assert "kubernetes" in executor_names()
    assert executor_class("kubernetes")(workers=3).num_workers([tiny] * 9) == 3
    words = small_sweep(cache_dir, "executor=kubernetes", "dry_run=true")
    assert launch.main([*words, "executor.workers=3"]) == 0
    assert "; 3 workers;" in capsys.readouterr().out
    assert launch.main([*words, "executor.worker=3"]) == 2
    assert "Did you mean 'executor.workers'?" in capsys.readouterr().err


def test_help_lists_it(pods, capsys):
    assert launch.main(["--help"]) == 0
    assert "executor=debug|local|slurm|ray|kubernetes" in capsys.readouterr().out


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
