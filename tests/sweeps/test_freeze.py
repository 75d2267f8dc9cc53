"""The code snapshot is the source at launch, and workers run it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aimv2.ablations.ladder import COMMITTED
from aimv2.base.errors import UsageError
from aimv2.base.files import digest_of, read_json
from aimv2.runs.provenance import PACKAGE, PACKAGES, code_digest, digest, git_commit, uncommitted
from aimv2.sweeps.freeze import freeze, snapshot
from tests.helpers.marks import everyday
from tests.helpers.sweeps import SMALL, small_sweep

SOURCE = PACKAGE.parent


@pytest.fixture
def source(tmp_path):
    """A copy of the packages, linked as in a clone, which a test may edit."""
    folder = tmp_path / "source"
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(SOURCE / package, folder / package, ignore=ignored, symlinks=True)
    return folder


def frozen(runs_dir, source):
    """Make a snapshot as a new launch does."""
    for function in (snapshot, git_commit, uncommitted):
        function.cache_clear()
    return freeze(runs_dir, source / "aimv2")


def test_a_snapshot_has_every_file_but_caches(source, tmp_path):
    (source / "aimv2/__pycache__").mkdir()
    (source / "aimv2/__pycache__/code.pyc").touch()
    copy = frozen(tmp_path / "runs", source)
    assert copy.parent == tmp_path / "runs/code"
    assert copy.is_absolute()
    core, *linked = PACKAGES
    assert code_digest(copy / core) == code_digest(source / core)
    for package in linked:
        assert digest_of(copy / core / package) == digest_of(source / package)
    assert sorted(path.name for path in copy.iterdir()) == [core, "frozen.json"]
    assert not list(copy.rglob("__pycache__"))
    assert [path.name for path in copy.parent.iterdir()] == [copy.name], "no partial copy"


def test_a_snapshot_has_the_committed_findings_of_sensitivity_studies(source, tmp_path):
    """A finalizer job that runs it judges by them, as the launch does."""
    for name in ("sensitivity_laptop/sensitivity.json", "sensitivity/report.md", "eos/records.parquet"):
        path = source / "reports/published" / name
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    copy = frozen(tmp_path / "runs", source)
    reports = copy / COMMITTED.relative_to(SOURCE)  # where those of the snapshot look
    copied = [path.relative_to(reports) for path in (copy / "aimv2/reports").rglob("*") if path.is_file()]
    assert copied == [Path("sensitivity_laptop/sensitivity.json")]


def test_equal_code_is_copied_once_and_a_launch_keeps_its_snapshot(source, tmp_path):
    runs_dir = tmp_path / "runs"
    first = frozen(runs_dir, source)
    made = (first / "aimv2").stat().st_ctime_ns
    assert frozen(runs_dir, source) == first
    assert (first / "aimv2").stat().st_ctime_ns == made
    (source / "sweeps/worker.py").write_text("raise ImportError\n")
    assert freeze(runs_dir, source / "aimv2") == first, "the launch continues with its snapshot"
    assert frozen(runs_dir, source) != first
    assert len(list((runs_dir / "code").iterdir())) == 2


def test_an_edited_snapshot_is_refused(source, tmp_path):
    copy = frozen(tmp_path / "runs", source)
    (copy / "aimv2/config/prefix.py").write_text("x = 1\n")
    with pytest.raises(UsageError, match=r"the code snapshot .* was changed; delete it and launch again"):
        frozen(tmp_path / "runs", source)


def test_the_difference_from_the_commit_is_kept_and_a_snapshot_is_its_own_snapshot(source, tmp_path):
    committed(source)
    (source / "sweeps/new.py").write_text("x = 1\n")
    copy = frozen(tmp_path / "runs", source)
    about = read_json(copy / "frozen.json")
    assert "+++ b/sweeps/new.py" in (tmp_path / f"runs/changes/{about['changes']}.diff").read_text()
    assert about["commit"].endswith("+changes")
    (source / "sweeps/new.py").write_text("x = 2\n")
    other = read_json(frozen(tmp_path / "runs", source) / "frozen.json")["changes"]
    assert "+x = 2" in (tmp_path / f"runs/changes/{other}.diff").read_text(), "though aimv2 is the same"
    assert frozen(tmp_path / "runs", copy) == copy
    assert len(list((tmp_path / "runs/code").iterdir())) == 2


@pytest.fixture
def marked(source):
    """A second clone, whose package says so when it is imported."""
    package = source / "aimv2/__init__.py"
    package.write_text(package.read_text() + f"print('imported from', {str(source)!r})\n")
    return source


@pytest.mark.parametrize(
    "script", everyday(["sweeps/launch.py"], ["sweeps/launch.py", "sweeps/manage.py", "analysis/report.py"])
)
def test_the_clone_that_is_typed_is_the_code_that_runs(marked, tmp_path, script):
    output = typed(marked / script, "--help", cwd=tmp_path)
    assert f"imported from {marked}" in output
    assert "usage:" in output


@pytest.mark.exhaustive
def test_code_launches_with_the_snapshot_of_that_digest(marked, tmp_path):
    runs_dir, launch = tmp_path / "runs", SOURCE / "sweeps/launch.py"
    arguments = ["sweep=none", f"runs_dir={runs_dir}", "debug=true"]
    code = code_digest(frozen(runs_dir, marked) / "aimv2")
    output = typed(launch, *arguments, f"code={code}", cwd=tmp_path, status=2)
    assert f"imported from {marked}" in output
    assert "unknown sweep 'none'" in output, "the other arguments are passed on"
    assert "Traceback" in output, "and debug=true too"
    for other, message in {
        "code=nothing": f"unknown code 'nothing'. Allowed: {code}.",
        "code=": "code= has no value",
    }.items():
        output = typed(launch, *arguments, other, cwd=tmp_path, status=2)
        assert "imported from" not in output
        assert message in output
    output = typed(launch, *arguments, f"code={digest()}", cwd=tmp_path, status=2)
    assert "imported from" not in output, "it is this code"
    assert "unknown sweep 'none'" in output


def typed(script, *arguments, cwd, status=0):
    """Run a script by its path, where this code is first in PYTHONPATH, and return its output."""
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONSAFEPATH": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def committed(source):
    """Commit the packages and return the commit."""
    git = ["git", "-C", str(source), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", *PACKAGES], ["commit", "-qm", "source"]):
        subprocess.run([*git, *command], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout[:12]


@pytest.mark.exhaustive
def test_an_edited_loss_fills_no_arm_without_a_word(source, tmp_path, cache_dir):
    committed(source)

    def launch(seeds, *more):
        own = (f"sweep.seeds={seeds}", "sweep.arms=[uniform,causal]", "executor=debug", *more)
        return typed(source / "sweeps/launch.py", *small_sweep(cache_dir, *own), cwd=tmp_path)

    def codes():
        return {path.parts[-4]: read_json(path)["code"] for path in tmp_path.glob("runs/v2-*/attempts/*/manifest.json")}

    loss = source / "aimv2/objectives/losses.py"
    assert "done runs are of code" not in launch(1)
    first, before = code_digest(source / "aimv2"), codes()
    assert set(before.values()) == {first}
    loss.write_text(loss.read_text() + "# edited\n")
    second, output = code_digest(source / "aimv2"), launch(2)
    assert f"done runs are of code {first} (3), new ones of {second}" in output
    (diff,) = (tmp_path / "runs/changes").iterdir()  # the first code was committed
    assert "+# edited" in diff.read_text()
    changes = {read_json(path)["changes"] for path in tmp_path.glob("runs/v2-*/attempts/*/manifest.json")}
    assert changes == {"", diff.stem}
    report = tmp_path / "reports/prefix_ratio/report.md"
    assert "Nothing is concluded, because the runs are of 2 codes." in report.read_text()
    launch(2, "sweep.allow_mixed_code=true")
    assert "as sweep.allow_mixed_code=true requests" in report.read_text()
    before = codes()
    assert "imported" not in launch(3, f"code={first}")
    assert {codes()[run] for run in codes().keys() - before.keys()} == {first}


@pytest.mark.exhaustive
def test_a_run_that_an_edit_would_restart_is_announced_and_resumes_with_its_code(source, tmp_path, cache_dir):
    own = ("sweep.seeds=1", "sweep.arms=[uniform]", "budget.samples=1000000", "executor=debug")
    arguments = small_sweep(cache_dir, *own)

    def interrupted(number, *more):
        """Launch, interrupt the attempt after a step of its own, and return its manifest."""
        process = subprocess.Popen(
            [sys.executable, str(source / "sweeps/launch.py"), *arguments, *more],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while not any(
            len(path.read_text().splitlines()) > 1 + (resumed(path) or 0)
            for path in tmp_path.glob(f"runs/v2-*/attempts/{number:04d}/metrics.jsonl")
            if path.with_name("manifest.json").exists()
        ):
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output = process.communicate()[0]
        assert process.returncode == 130, output
        (manifest,) = tmp_path.glob(f"runs/v2-*/attempts/{number:04d}/manifest.json")
        return read_json(manifest)

    def resumed(path):
        found = read_json(path.with_name("manifest.json"))["resumed"]
        return found and found["step"]

    code = interrupted(1)["code"]
    loss = source / "aimv2/objectives/losses.py"
    loss.write_text(loss.read_text() + "# edited\n")
    output = typed(source / "sweeps/launch.py", *arguments, "dry_run=true", cwd=tmp_path)
    assert (
        f"start again at step 0, since their checkpoints are of other code: {code} (1). To resume instead, launch with"
        in output
    )
    manifest = interrupted(2, f"code={code}")
    assert manifest["code"] == code
    assert manifest["resumed"]["attempt"] == 1
    assert manifest["resumed"]["step"] > 0


@pytest.mark.exhaustive
def test_workers_run_the_snapshot_although_the_source_is_edited(source, tmp_path, cache_dir):
    """The source breaks as soon as the snapshot is made, before a worker has imported anything."""
    commit, code = committed(source), code_digest(source / "aimv2")
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
        assert manifest["code"] == code == code_digest(copies[0] / "aimv2")
        assert manifest["commit"] == commit
    assert read_json(copies[0] / "frozen.json")["commit"] == commit
