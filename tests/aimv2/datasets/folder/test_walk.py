"""Walks through folders with links."""

import os

import pytest

from aimv2.datasets.folder.walk import Walk, is_within
from tests.helpers.own_data import write

EXTENSIONS = (".jpg", ".png")


def test_links_that_lead_out_of_the_folder_are_left_out(tmp_path):
    outside = write(tmp_path / "secret/b.jpg", "secret")
    inside = write(tmp_path / "pictures/a.jpg", "image")
    (tmp_path / "pictures/in.jpg").symlink_to(inside)
    (tmp_path / "pictures/a.txt").symlink_to(outside)
    (tmp_path / "pictures/out").symlink_to(outside.parent)
    walk = Walk(str(tmp_path / "pictures"), EXTENSIONS)
    assert [each.names for each in walk] == [["a.jpg", "in.jpg"]]
    assert walk.num_outside == 2
    assert [each.names for each in Walk(str(tmp_path / "pictures"), named={"out/": {"b.jpg"}})] == []


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("a/b.jpg", True),
        ("a/none.jpg", True),
        ("a/../a/b.jpg", True),
        ("a/..", False),
        ("..", False),
        ("../pictures2/c.jpg", False),
        ("a/../../pictures2/c.jpg", False),
        ("out/c.jpg", False),
        ("a/link.jpg", False),
        ("/etc/passwd", False),
    ],
)
def test_is_within_follows_links(tmp_path, path, inside):
    write(tmp_path / "pictures/a/b.jpg", "")
    outside = write(tmp_path / "pictures2/c.jpg", "")
    (tmp_path / "pictures/out").symlink_to(outside.parent)
    (tmp_path / "pictures/a/link.jpg").symlink_to(outside)
    root = os.path.realpath(tmp_path / "pictures")
    assert is_within(root, os.path.join(root, path)) is inside
