"""Stamps of files, and sentences on names."""

import os

import pytest

from aimv2.datasets.stamps import changes, stamp_of
from tests.helpers.own_data import write


def test_a_stamp_is_the_same_until_size_or_time_change(tmp_path):
    file = write(tmp_path / "a", "one")
    os.utime(file, ns=(5, 7))
    first = stamp_of(file.stat())
    assert first[:2] == (3, 7)
    file.chmod(0o600)
    status = stamp_of(file.stat())
    assert status.is_same(first)
    assert status.changed >= first.changed
    os.utime(file, ns=(5, 8))
    assert not stamp_of(file.stat()).is_same(first)
    write(file, "four")
    os.utime(file, ns=(5, 7))
    assert not stamp_of(file.stat()).is_same(first)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ({}, ""),
        ({"missing": [], "new": []}, ""),
        ({"missing": ["a"], "new": ["b", "c"]}, "a is missing; b, c are new"),
        ({"changed": list("abcde")}, "a, b, c and 2 more are changed"),
    ],
)
def test_changes_are_one_sentence(names, sentence):
    assert changes(names) == sentence
