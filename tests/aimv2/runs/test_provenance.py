import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from aimv2.base.files import digest_of, write_json
from aimv2.request.resolve import resolve
from aimv2.runs.provenance import (
    NO_NUMBERS,
    PACKAGE,
    code_digest,
    code_of_lost_checkpoint,
    digest,
    git_commit,
    saved_step,
    uncommitted,
)
from tests.helpers.own_data import own_set, own_source


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one.py").write_text("x = 1\n")
    (tmp_path / "a/two.yaml").write_text("y: 2\n")
    return tmp_path


def test_digest_counts_everything_but_caches(folder):
    before = digest_of(folder)
    (folder / "a/__pycache__").mkdir()
    (folder / "a/__pycache__/one.pyc").write_bytes(b"compiled")
    assert digest_of(folder) == before
    seen = {before}
    for change in (
        lambda: (folder / "a/one.py").write_text("x = 2\n"),
        lambda: (folder / "a/two.yaml").rename(folder / "a/three.yaml"),
        lambda: (folder / "a/four").touch(),
    ):
        change()
        seen.add(digest_of(folder))
    assert len(seen) == 4


@pytest.mark.exhaustive
def test_files_outside_the_digest_are_imported_by_no_run(tiny, tmp_path):
    """The oracle is a run itself, with a labelled set, in a process of its own."""
    own_source(tmp_path, "birds")
    own_source(tmp_path, "boats")
    pets = own_set(tmp_path, "pets", "birds", "boats")
    config = replace(tiny, evaluation=replace(tiny.evaluation, sets=(pets,), set_images=40))
    write_json(tmp_path / "config.json", resolve(config).to_dict())
    script = """
import sys
from pathlib import Path
from aimv2.config.run_config import RunConfig
from aimv2.run.execute import execute
from aimv2.base.files import read_json
from aimv2.runs.record import RunFolder

config = RunConfig.from_dict(read_json(Path("config.json")))
run = RunFolder(Path("runs"), config.name)
assert execute(run.acquire(config), config) is None
print(*(module.__file__ for name, module in sys.modules.items() if name.startswith("aimv2.")), sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported = {Path(line).relative_to(PACKAGE).as_posix() for line in done.stdout.splitlines() if ".py" in line}
    assert {"run/execute.py", "evaluation/evaluate.py"} <= imported
    assert [name for name in imported if name.startswith(NO_NUMBERS)] == []


def test_an_edit_that_cannot_change_a_number_changes_no_digest(tmp_path):
    package = shutil.copytree(PACKAGE, tmp_path / "aimv2", ignore=shutil.ignore_patterns("__pycache__"))
    assert code_digest(package) == digest() != digest_of(package)
    for name in NO_NUMBERS:
        paths = (path for path in package.rglob("*") if path.is_file())
        path = next(path for path in paths if path.relative_to(package).as_posix().startswith(name))
        path.write_bytes(path.read_bytes() + b"# edited\n")
    assert code_digest(package) == digest()
    losses = package / "objectives/losses.py"
    losses.write_text(losses.read_text() + "# edited\n")
    assert code_digest(package) != digest()


@pytest.fixture
def checkout(tmp_path):
    """Commit two packages and a file beside them; return a function that calls git."""
    for name in ("aimv2/one.py", "sweeps/two.py", "secret.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")

    def git(*command):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(["git", *identity, *command], cwd=tmp_path, check=True, capture_output=True).stdout

    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "all")):
        git(*command)
    return git


def provenance_of(folder):
    git_commit.cache_clear()
    uncommitted.cache_clear()
    return git_commit(folder / "aimv2"), uncommitted(folder / "aimv2")


def test_uncommitted_changes_of_the_packages_restore_them(checkout, tmp_path):
    commit = checkout("rev-parse", "HEAD").decode()[:12]
    (tmp_path / "secret.txt").write_text("a password\n")
    (tmp_path / "aimv2/__pycache__").mkdir()
    (tmp_path / "aimv2/__pycache__/one.pyc").write_bytes(b"compiled")
    assert provenance_of(tmp_path) == (commit, b""), "what is beside the packages is not code"
    changed = {"aimv2/one.py": b"x = 2\r\n\xff", "aimv2/a new.py": b"y\n", "sweeps/data.bin": b"\0\1", "aimv2/é": b"z"}
    for name, content in changed.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "sweeps/two.py").unlink()
    checkout("config", "diff.noprefix", "true")
    checkout("config", "color.ui", "always")
    name, diff = provenance_of(tmp_path)
    assert name == f"{commit}+changes"
    assert b"password" not in diff
    assert b"compiled" not in diff
    for name in changed:
        (tmp_path / name).unlink()
    checkout("checkout", "--", "aimv2", "sweeps")
    (tmp_path / "it.diff").write_bytes(b"Changes since commit abc\n" + diff)
    checkout("apply", "it.diff")
    assert {name: (tmp_path / name).read_bytes() for name in changed} == changed
    assert not (tmp_path / "sweeps/two.py").exists()


def test_changes_are_relative_to_the_packages_wherever_they_are_in_the_checkout(checkout, tmp_path):
    (tmp_path / "inside").mkdir()
    checkout("mv", "aimv2", "sweeps", "inside")
    checkout("commit", "-qm", "moved")
    (tmp_path / "inside/aimv2/one.py").write_text("x = 3\n")
    (tmp_path / "inside/aimv2/new.py").write_text("y = 3\n")
    diff = provenance_of(tmp_path / "inside")[1]
    assert b"+++ b/aimv2/one.py" in diff
    assert b"+++ b/aimv2/new.py" in diff


def test_a_wheel_within_the_checkout_of_another_project_has_its_version(checkout, tmp_path):
    site = tmp_path / ".venv/site-packages"
    (site / "aimv2").mkdir(parents=True)
    (site / "aimv2/one.py").write_text("x = 1\n")
    assert provenance_of(site) == ("", b""), "neither installed nor tracked"
    (site / "aimv2_ablations-1.2.0.dist-info").mkdir()
    assert provenance_of(site) == ("v1.2.0", b"")


def test_git_commit_of_a_code_snapshot_is_the_recorded_one(folder):
    assert git_commit(folder) == "", "no checkout"
    (folder / "frozen.json").write_text(json.dumps({"commit": "0123456789ab+changes"}))
    assert git_commit(folder / "a") == "0123456789ab+changes"


def write_attempt(run, number, *, code, has_checkpoint=True, step=1):
    folder = run / "attempts" / f"{number:04d}"
    folder.mkdir(parents=True)
    write_json(folder / "manifest.json", {"code": code} if code else {})
    if has_checkpoint:
        (folder / "checkpoint" / f"{step:09d}").mkdir(parents=True)


def test_checkpoint_of_other_code_is_lost_unless_one_of_this_code_is_left(tmp_path):
    assert code_of_lost_checkpoint(tmp_path) == ""
    write_attempt(tmp_path, 1, code="")
    assert code_of_lost_checkpoint(tmp_path) == "unknown"
    write_attempt(tmp_path, 2, code="0123456789ab")
    write_attempt(tmp_path, 3, code="ba9876543210", has_checkpoint=False)
    assert code_of_lost_checkpoint(tmp_path) == "0123456789ab"
    write_attempt(tmp_path, 4, code=digest())
    write_attempt(tmp_path, 5, code="0123456789ab")
    assert code_of_lost_checkpoint(tmp_path) == "", "the next attempt resumes from attempt 4"


def test_saved_step_is_that_of_the_newest_checkpoint_of_this_code(tmp_path):
    assert saved_step(tmp_path) == 0
    write_attempt(tmp_path, 1, code="0123456789ab", step=90)
    assert saved_step(tmp_path) == 0
    write_attempt(tmp_path, 2, code=digest(), step=40)
    write_attempt(tmp_path, 3, code=digest(), has_checkpoint=False)
    assert saved_step(tmp_path) == 40
