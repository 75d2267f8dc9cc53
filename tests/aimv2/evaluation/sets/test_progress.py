import io

import pytest
from aimv2.tools.evaluate.progress import EVERY, counted, progress
from rich.console import Console


def shown(*, is_terminal=False, quiet=False, total=7, steps=(3, 4), **more):
    """What a console receives during some work, and after it."""
    console = Console(file=io.StringIO(), width=100, force_terminal=is_terminal, quiet=quiet)
    with progress(console, "fitting probe", total, **more) as advance:
        for number in steps:
            advance(number)
        during = console.file.getvalue()
    return during, console.file.getvalue()


def test_a_terminal_shows_work_before_it_is_done():
    during, after = shown(is_terminal=True)
    assert "fitting probe" in during
    assert "7/7" in after


def test_without_a_terminal_a_line_follows_the_work():
    during, after = shown()
    assert during == ""
    (line,) = after.splitlines()
    assert line.startswith("fitting probe")
    assert "7/7" in line


@pytest.mark.parametrize("values", [{"quiet": True}, {"is_kept": False}])
def test_nothing_is_left_where_nothing_is_wanted(values):
    assert shown(**values) == ("", "")


def test_an_error_in_the_work_passes():
    with pytest.raises(ZeroDivisionError), progress(Console(quiet=True), "fitting probe", 7):
        raise ZeroDivisionError


@pytest.mark.parametrize("number", [0, 1, EVERY, 2 * EVERY + 5])
def test_rows_are_counted_once_and_rarely(number):
    seen = []
    assert list(counted(range(number), seen.append)) == list(range(number))
    assert sum(seen) == number
    assert len(seen) == number // EVERY + 1
