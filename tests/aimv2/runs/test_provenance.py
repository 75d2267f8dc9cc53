import json
from importlib import metadata

import pytest

from aimv2.runs import provenance as code
from aimv2.runs.provenance import digest, digest_of, git_commit, lock


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one.py").write_text("x = 1\n")
    (tmp_path / "a/two.yaml").write_text("y: 2\n")
    return tmp_path


def test_caches_do_not_count_and_everything_else_does(folder):
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


def test_the_same_files_elsewhere_have_the_same_digest(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "copy"
    other.mkdir()
    (folder / "a").rename(other / "a")
    one = digest_of(other)
    (other / "a").rename(folder / "a")
    assert digest_of(folder) == one


def test_the_packages_own_digest_is_that_of_its_folder():
    assert digest() == digest_of(code.PACKAGE)


def test_a_frozen_copy_names_the_commit_that_it_was_made_at(folder, monkeypatch):
    monkeypatch.setattr(code, "PACKAGE", folder / "a")
    git_commit.cache_clear()
    try:
        assert git_commit() == "", "no checkout"
        (folder / "frozen.json").write_text(json.dumps({"commit": "0123456789ab+changes"}))
        git_commit.cache_clear()
        assert git_commit() == "0123456789ab+changes"
    finally:
        git_commit.cache_clear()


def test_lock_reports_installed_versions_that_differ(tmp_path):
    installed = {name: metadata.version(name).partition("+")[0] for name in ("torch", "numpy", "scikit-learn")}
    same, other = tmp_path / "same.txt", tmp_path / "other.txt"
    same.write_text("# a comment\n" + "".join(f"{name}=={version}\n" for name, version in installed.items()))
    other.write_text("numpy==1.0\nscikit_learn==0.1\nnot-installed==1.0\n")
    assert lock(same)["matches"]
    assert lock(same)["differences"] == {}
    assert not lock(other)["matches"]
    assert lock(other)["differences"] == {"numpy": installed["numpy"], "scikit_learn": installed["scikit-learn"]}
    assert lock(same)["digest"] != lock(other)["digest"]


def test_lock_of_the_checkout_is_found():
    assert lock()["digest"]


def test_lock_is_none_for_an_installed_package_without_one(tmp_path):
    assert lock(tmp_path / "constraints.txt") is None
