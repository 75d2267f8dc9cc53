import json
from importlib import metadata

import pytest

from aimv2.runs.provenance import PACKAGE, compare_with_lock, digest, digest_of, git_commit


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


def test_digest_does_not_depend_on_the_folder(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "copy"
    other.mkdir()
    (folder / "a").rename(other / "a")
    one = digest_of(other)
    (other / "a").rename(folder / "a")
    assert digest_of(folder) == one


def test_digest_of_the_package_is_that_of_its_folder():
    assert digest() == digest_of(PACKAGE)


def test_git_commit_of_a_code_snapshot_is_the_recorded_one(folder):
    assert git_commit(folder) == "", "no checkout"
    (folder / "frozen.json").write_text(json.dumps({"commit": "0123456789ab+changes"}))
    assert git_commit(folder / "a") == "0123456789ab+changes"


@pytest.fixture
def installed():
    return {name: metadata.version(name).partition("+")[0] for name in ("torch", "numpy", "scikit-learn")}


def test_compare_with_lock_finds_no_difference_from_the_installed_versions(tmp_path, installed):
    lock = tmp_path / "constraints.txt"
    lock.write_text("# a comment\n" + "".join(f"{name}=={version}\n" for name, version in installed.items()))
    compared = compare_with_lock(lock)
    assert compared["matches"]
    assert compared["differences"] == {}


def test_compare_with_lock_names_the_installed_version_of_each_package_that_differs(tmp_path, installed):
    lock = tmp_path / "constraints.txt"
    lock.write_text(f"numpy==1.0\nscikit_learn==0.1\nnot-installed==1.0\ntorch=={installed['torch']}\n")
    compared = compare_with_lock(lock)
    assert not compared["matches"]
    assert compared["differences"] == {"numpy": installed["numpy"], "scikit_learn": installed["scikit-learn"]}


def test_compare_with_lock_tells_locks_apart(tmp_path):
    digests = set()
    for version in ("1.0", "1.1"):
        lock = tmp_path / f"{version}.txt"
        lock.write_text(f"numpy=={version}\n")
        digests.add(compare_with_lock(lock)["digest"])
    assert len(digests) == 2


def test_compare_with_lock_finds_the_lock_of_the_checkout():
    assert compare_with_lock()["digest"]


def test_compare_with_lock_is_none_without_a_lock(tmp_path):
    assert compare_with_lock(tmp_path / "constraints.txt") is None
