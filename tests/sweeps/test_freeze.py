"""The frozen code is what was there at launch, and is what workers run."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from aimv2.errors import UsageError
from aimv2.runs.files import read_json
from aimv2.runs.provenance import digest_of
from sweeps import freeze as freezing
from sweeps.freeze import PACKAGES, freeze
from tests.helpers.sweeps import SMALL


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A copy of the packages that tests may edit, in the place of the source."""
    folder = tmp_path / "source"
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(freezing.SOURCE / package, folder / package, ignore=ignored)
    monkeypatch.setattr(freezing, "SOURCE", folder)
    return folder


def frozen(runs_dir):
    """As a new launch would."""
    freeze.cache_clear()
    return freeze(runs_dir)


def test_the_copy_has_every_file_but_caches(source, tmp_path):
    (source / "aimv2/__pycache__").mkdir()
    (source / "aimv2/__pycache__/code.pyc").touch()
    copy = frozen(tmp_path / "runs")
    assert copy.parent == tmp_path / "runs/code"
    assert copy.is_absolute()
    for package in PACKAGES:
        assert digest_of(copy / package) == digest_of(source / package)
    assert sorted(path.name for path in copy.iterdir()) == sorted([*PACKAGES, "frozen.json"])
    assert not list(copy.rglob("__pycache__"))
    assert [path.name for path in copy.parent.iterdir()] == [copy.name], "nothing half made"


def test_code_that_is_the_same_is_copied_once_and_a_launch_keeps_its_own(source, tmp_path):
    runs_dir = tmp_path / "runs"
    first = frozen(runs_dir)
    made = (first / "aimv2").stat().st_ctime_ns
    assert frozen(runs_dir) == first
    assert (first / "aimv2").stat().st_ctime_ns == made
    (source / "sweeps/worker.py").write_text("raise ImportError\n")
    assert freeze(runs_dir) == first, "the launch goes on with what it began with"
    assert frozen(runs_dir) != first
    assert len(list((runs_dir / "code").iterdir())) == 2


def test_a_copy_that_was_edited_is_refused(source, tmp_path):
    copy = frozen(tmp_path / "runs")
    (copy / "aimv2/cost.py").write_text("x = 1\n")
    with pytest.raises(UsageError, match=r"was changed; delete it"):
        frozen(tmp_path / "runs")


@pytest.mark.slow
def test_workers_run_the_code_as_it_was_at_launch(source, tmp_path, cache_dir):
    """The source breaks as soon as the launcher has made its copy, before a worker has imported anything."""
    git = ["git", "-C", str(source), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "the code at launch"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    digest = digest_of(source / "aimv2")
    asked = ["sweep=prefix_ratio", "sweep.arms=[uniform]", "sweep.seeds=1", "executor.workers=1", *SMALL]
    process = subprocess.Popen(
        [sys.executable, str(source / "sweeps/launch.py"), *asked, f"data.cache_dir={cache_dir}"],
        cwd=source,  # where an import would find the source first
        env={**os.environ, "PYTHONPATH": str(source)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (copies := list(source.glob("runs/code/[!.]*"))):
        assert time.monotonic() < deadline, "nothing was frozen"
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    (source / "aimv2/training/loop.py").write_text("raise ImportError('edited')\n")
    (source / "sweeps/worker.py").write_text("raise ImportError('edited')\n")
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    manifests = [read_json(path) for path in source.glob("runs/v1-*/attempts/0001/manifest.json")]
    assert len(manifests) == 2
    for manifest in manifests:
        assert manifest["code"] == digest == digest_of(copies[0] / "aimv2")
        assert manifest["commit"] == commit[:12]
    assert json.loads((copies[0] / "frozen.json").read_text()) == {"commit": commit[:12]}
