"""The progress of an evaluation, shown as ``python -m aimv2 train`` shows that of a run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

REFRESH_PER_SECOND = 2  # a thread draws, and takes time from the computation
EVERY = 1000  # rows between two updates

Advance = Callable[[int], None]


def no_progress(number: int) -> None:
    """Show nothing."""


@contextmanager
def progress(console: Console, title: str, total: int, *, is_kept: bool = True) -> Iterator[Advance]:
    """Show how much of some work is done; yields a function that adds to it.

    Without a terminal, there is a line when the work is done.

    Args:
        is_kept: False to leave no line behind.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns,
        console=console,
        transient=not is_kept,
        refresh_per_second=REFRESH_PER_SECOND,
        disable=console.quiet or not (is_kept or console.is_terminal),  # it would leave an empty line
    ) as shown:
        task = shown.add_task(title, total=total)

        def advance(number: int) -> None:
            shown.advance(task, number)

        yield advance


def counted(rows: Sequence[int], advance: Advance) -> Iterator[int]:
    """Yield rows, and advance by EVERY at a time."""
    for number, row in enumerate(rows, start=1):
        yield row
        if number % EVERY == 0:
            advance(EVERY)
    advance(len(rows) % EVERY)
