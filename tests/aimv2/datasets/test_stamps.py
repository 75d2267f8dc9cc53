"""Stamps of files, and sentences on names."""

import os

import pytest

from aimv2.datasets.stamps import TICK, Stamp, changes, stamp_of
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
    ("modified", "is_older"),
    [
        (10 * TICK, False),
        (9 * TICK, False),
        (9 * TICK - 1, True),
        (1, True),
        (0, False),
        (-5, False),
        (99 * TICK, False),
    ],
)
def test_a_time_of_the_last_tick_may_be_that_of_a_later_change_too(modified, is_older):
    assert Stamp(4096, modified, 10 * TICK).is_older(10 * TICK) is is_older


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
