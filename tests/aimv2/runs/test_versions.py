from importlib import metadata

import pytest

from aimv2.runs.versions import compare_with_lock


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
