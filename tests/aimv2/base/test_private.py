"""Names of a machine and its users, found wherever they stand as words."""

import getpass
import platform
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.base.private import PrivateNames

NAMES = PrivateNames("/home/mia", ("mia", "node17.lab.org", "node17", "ab", "", "root"), common="the root = package")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see /home/mia/runs", "mia"),
        ('"owner": "Mia"', "mia"),
        ("on node17, and", "node17"),
        ("node17.lab.org", "node17.lab.org"),
        ("the root, and ab", ""),  # a word of the code; too short
        ("miami, node170, xnode17", ""),
        ("", ""),
    ],
)
def test_names_are_found_as_words(text, found):
    assert NAMES.found_in(text.encode()) == found


def test_a_home_folder_is_found_whatever_its_name():
    names = PrivateNames("/root", ("root",), common="root")
    assert names.found_in(b"runs_dir=/root/runs") == "/root"
    assert names.found_in(b"/root") == "/root"
    assert not names.found_in(b"/rooted and share/root")


@given(
    name=st.text(string.ascii_lowercase, min_size=3, max_size=8).map(lambda name: f"{name}q7"),
    before=st.sampled_from(["", "/", '"', " ", "@", "=", "\\"]),
    after=st.sampled_from(["", "/", '"', " ", ":", "\n", "."]),
)
def test_any_name_between_signs_is_found(name, before, after):
    names = PrivateNames("/", (name,))
    assert names.found_in(f"x{' ' if not before else ''}{before}{name.upper()}{after}".encode()) == name


def test_those_of_this_process_are_known():
    names = PrivateNames.here(["elsewhere.org"])
    assert names.found_in(f"{Path.home()}/runs".encode()) or str(Path.home()) == "/"
    assert names.found_in(b"at elsewhere") == "elsewhere"
    for name in (platform.node(), getpass.getuser()):
        assert len(name) < 3 or names.found_in(name.encode())
