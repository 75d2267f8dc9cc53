"""The code snapshot is the source at launch, and workers run it."""

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
from sweeps.freeze import PACKAGES, SOURCE, freeze
from tests.helpers.sweeps import SMALL


@pytest.fixture
def source(tmp_path):
    """A copy of the packages, which a test may edit."""
    folder = tmp_path / "source"
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(SOURCE / package, folder / package, ignore=ignored)
    return folder


def frozen(runs_dir, source):
    """Make a snapshot as a new launch does."""
    freeze.cache_clear()
    return freeze(runs_dir, source)


def test_a_snapshot_has_every_file_but_caches(source, tmp_path):
    (source / "aimv2/__pycache__").mkdir()
    (source / "aimv2/__pycache__/code.pyc").touch()
    copy = frozen(tmp_path / "runs", source)
    assert copy.parent == tmp_path / "runs/code"
    assert copy.is_absolute()
    for package in PACKAGES:
        assert digest_of(copy / package) == digest_of(source / package)
    assert sorted(path.name for path in copy.iterdir()) == sorted([*PACKAGES, "frozen.json"])
    assert not list(copy.rglob("__pycache__"))
    assert [path.name for path in copy.parent.iterdir()] == [copy.name], "no partial copy"


def test_equal_code_is_copied_once_and_a_launch_keeps_its_snapshot(source, tmp_path):
    runs_dir = tmp_path / "runs"
    first = frozen(runs_dir, source)
    made = (first / "aimv2").stat().st_ctime_ns
    assert frozen(runs_dir, source) == first
    assert (first / "aimv2").stat().st_ctime_ns == made
    (source / "sweeps/worker.py").write_text("raise ImportError\n")
    assert freeze(runs_dir, source) == first, "the launch continues with its snapshot"
    assert frozen(runs_dir, source) != first
    assert len(list((runs_dir / "code").iterdir())) == 2


def test_an_edited_snapshot_is_refused(source, tmp_path):
    copy = frozen(tmp_path / "runs", source)
    (copy / "aimv2/cost.py").write_text("x = 1\n")
    with pytest.raises(UsageError, match=r"the code snapshot .* was changed; delete it and launch again"):
        frozen(tmp_path / "runs", source)


@pytest.mark.exhaustive
def test_workers_run_the_snapshot_although_the_source_is_edited(source, tmp_path, cache_dir):
    """The source breaks as soon as the snapshot is made, before a worker has imported anything."""
    git = ["git", "-C", str(source), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "source"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    digest = digest_of(source / "aimv2")
    arguments = ["sweep=prefix_ratio", "sweep.arms=[uniform]", "sweep.seeds=1", "executor.workers=1", *SMALL]
    arguments.append(f"data.cache_dir={cache_dir}")
    process = subprocess.Popen(
        [sys.executable, str(source / "sweeps/launch.py"), *arguments],
        cwd=source,  # where an import would find the source first
        env={**os.environ, "PYTHONPATH": str(source)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (copies := list(source.glob("runs/code/[!.]*"))):
        assert time.monotonic() < deadline, "no snapshot was made"
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    (source / "aimv2/training/loop.py").write_text("raise ImportError('edited')\n")
    (source / "sweeps/worker.py").write_text("raise ImportError('edited')\n")
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    manifests = [read_json(path) for path in source.glob("runs/v2-*/attempts/0001/manifest.json")]
    assert len(manifests) == 2
    for manifest in manifests:
        assert manifest["code"] == digest == digest_of(copies[0] / "aimv2")
        assert manifest["commit"] == commit[:12]
    assert json.loads((copies[0] / "frozen.json").read_text()) == {"commit": commit[:12]}
