import os

import pytest

from aimv2.config.arguments import checked, key_values
from aimv2.errors import UsageError
from aimv2.runs.files import share, writable_folder


def test_a_value_is_given_back_as_its_type():
    assert checked("seeds", list[int], ["1", 2]) == [1, 2]


@pytest.mark.parametrize(("kind", "value"), [(bool, "maybe"), (list[int], "few"), (str, 2024)])
def test_a_value_of_another_type_is_named_with_its_key(kind, value):
    with pytest.raises(UsageError, match=r"^the_key: Input should be a valid ") as caught:
        checked("the_key", kind, value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_made_and_left_clean(tmp_path):
    assert writable_folder(str(tmp_path / "a" / "b"), "runs_dir") == tmp_path / "a" / "b"
    assert not os.listdir(tmp_path / "a" / "b")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"runs_dir='.*file/x' cannot be written: Not a directory"):
        writable_folder(str(tmp_path / "file" / "x"), "runs_dir")


def test_a_full_disk_is_named_before_anything_runs(tmp_path):
    probe = tmp_path / f".writable-{os.getpid()}"
    probe.symlink_to("/dev/full")
    with pytest.raises(UsageError, match="No space left on device"):
        writable_folder(str(tmp_path), "runs_dir")


def test_arguments_are_read_by_their_keys():
    assert key_values(["out=a=b", "run=x"], ["run", "out"]) == {"out": "a=b", "run": "x"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "cannot read 'run': arguments have the form key=value"),
        (["rum=x"], "unknown key 'rum'. Did you mean 'run'? Allowed: run."),
        (["run="], "run= has no value"),
        (["run=x", "run=x"], "run= is given twice; once is allowed"),
    ],
)
def test_arguments_of_another_form_are_refused(arguments, message):
    with pytest.raises(UsageError) as caught:
        key_values(arguments, ["run"])
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("mode", "part", "expected"),
    [
        (0o2775, "", 0o660),
        (0o775, "", 0o660),
        (0o755, "", 0o600),
        (0o2775, "runs/to/be/made", 0o660),
        (0o775, "runs/to/be/made", 0o600),
    ],
)
def test_what_is_made_in_a_groups_folder_is_the_groups(tmp_path, mode, part, expected):
    tmp_path.chmod(mode)
    before = os.umask(0o077)
    try:
        share(tmp_path / part)
        (tmp_path / "a").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == expected
