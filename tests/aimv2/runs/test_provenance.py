import json

import pytest

from aimv2.runs import provenance as code
from aimv2.runs.provenance import digest, digest_of, git_commit


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
