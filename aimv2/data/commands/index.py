"""``python -m aimv2 data index``: find all samples of described data once, so that they are read without a search."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from aimv2.base.errors import UsageError
from aimv2.config.arguments import HELP, checked, key_values
from aimv2.datasets.description import SUFFIXES, Location, read_labelled, read_source, read_values
from aimv2.datasets.index_folder import Indexed, OnProgress, index_path
from aimv2.datasets.open import prepare_location, prepare_source
from aimv2.datasets.shards.patterns import expand, is_url

USAGE = """usage: python -m aimv2 data index FILE.yaml [workers=N]
       python -m aimv2 data index PATTERN to=FOLDER [workers=N]

Index the data of a description, or tar shards: {00000..00331} stands for a range of numbers, * for any text. Shards
that have not changed since the last time are not read again.

  to=FOLDER                    the folder of the index (PATTERN only; a description has the key index)
  workers=N                    processes that read shards (default: one for each core)
  debug=true                   show the traceback of an error
"""

SPLITS = ("train", "validation", "test")
CAPTIONS = ("txt", "json", "caption", "text")  # members that usually have the caption

console = Console()


def index_command(arguments: Sequence[str]) -> int:
    """Index the data of a description or pattern, and print a summary.

    Raises:
        UsageError: the arguments or the description are invalid, or data are missing or broken.
    """
    if not arguments or HELP & set(arguments):
        print(USAGE, end="")
        return 0 if arguments else 2
    name, *rest = arguments
    is_file = name.endswith(SUFFIXES)
    given = key_values(rest, ("workers",) if is_file else ("to", "workers"))
    workers = checked("workers", int, given.get("workers", len(os.sched_getaffinity(0))))
    if workers < 1:
        raise UsageError(f"workers={workers} must be at least 1")
    if not is_file:
        return _index_pattern(name, given.get("to"), workers)
    path = Path(name)
    if is_labelled(path):
        described = read_labelled(path)
        for split in SPLITS:
            if location := getattr(described, split):
                _index(f"{path} {split}", location, partial(prepare_location, location, workers))
        return 0
    source = read_source(path)
    _index(str(path), source, partial(prepare_source, source, workers))
    return 0


def is_labelled(path: Path) -> bool:
    """True if a description is one of a labelled set."""
    return any(split in read_values(path.expanduser()) for split in SPLITS)


def _index_pattern(pattern: str, to: str | None, workers: int) -> int:
    if to is None:
        raise UsageError(f"{pattern!r} is no description ({' or '.join(SUFFIXES)}), and shards need to=FOLDER")
    full = pattern if is_url(pattern) or pattern.startswith("pipe:") else os.path.abspath(pattern)
    expand([full])  # before a location is made of it: its errors name the pattern
    location = Location(shards=(full,), index=os.path.abspath(to))
    _index(pattern, location, partial(prepare_location, location, workers))
    console.print(
        f"\nA description to save as FILE.yaml; python -m aimv2 data index FILE.yaml then completes the index:\n\n"
        f"{_description(location)}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    return 0


def _index(title: str, location: Location, action: Callable[[OnProgress], Indexed]) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(title, total=None)
        indexed = action(lambda done, total: progress.update(task, completed=done, total=total))
    lines = (f"samples: {indexed.num_samples:,}", *indexed.notes, f"index: {index_path(location)}")
    console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)


def _description(location: Location) -> str:
    """Return the shortest description of shards that are indexed."""
    from aimv2.datasets.shards.index import open_index

    extensions = open_index(location).extensions
    found = next((extension for extension in CAPTIONS if extension in extensions), "txt")
    caption = f"{found}.caption" if found == "json" else found
    values = {"shards": location.shards[0], "index": location.index, "short": caption}
    return str(yaml.safe_dump(values, sort_keys=False))
