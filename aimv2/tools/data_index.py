"""``python -m aimv2 data``, and ``data index``: find all samples of described data once, and audit them on request."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from aimv2.base.errors import UsageError, unknown
from aimv2.base.files import write_json, write_text
from aimv2.base.interrupt import Interrupts
from aimv2.config.arguments import HELP, defaults_of, options_of
from aimv2.config.data_config import DESCRIPTIONS, is_described
from aimv2.datasets.description import LabelledDescription, Location, read_description
from aimv2.datasets.folder_layout import SUFFIXES
from aimv2.datasets.index import index_path
from aimv2.datasets.open import prepare_location
from aimv2.memory.machine import num_cores
from aimv2.request.compose import compose, run_config
from aimv2.tools.options import DATA_COMMANDS, IndexOptions, data_usage

OF_DATASETS = ("state.json", "dataset_dict.json")  # in a folder of ``save_to_disk``
LEAKS = ".leaks.txt"  # suffix of the file with the keys of leaked training pairs
console = Console()


def data_command(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in HELP:
        print(data_usage(), end="")
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in DATA_COMMANDS:
        raise unknown("data command", name, DATA_COMMANDS)
    if HELP & set(rest) or (not rest and name != "show"):
        print(data_usage([name]), end="")
        return 0 if rest else 2
    status: int = resolve_name(DATA_COMMANDS[name][0])(rest)
    return status


def index_command(arguments: Sequence[str]) -> int:
    names = [text for number, text in enumerate(arguments) if not number or "=" not in text or is_described(text)]
    given = [text for text in arguments if text not in names]
    values = compose(given, defaults={}, values=defaults_of(IndexOptions))
    options = options_of(IndexOptions, values)
    workers = options.workers or num_cores()
    if not options.audit and (of_audit := [text for text in given if text.startswith(("num=", "data."))]):
        raise UsageError(f"{' '.join(of_audit)}: that is of an audit; type audit=true too")
    for name in names:
        if not is_described(name):
            raise UsageError(
                f"{name!r} is no description ({' or '.join(DESCRIPTIONS)}); {_advice(name)} (docs/data.md)"
            )
    if len(set(names)) < len(names):
        raise UsageError(f"{' '.join(names)}: each source is needed once")
    for name in names:
        for split, location in read_description(name).splits():
            num_samples, notes = _prepare(f"{name} {split}".strip(), location, workers)
            _print(f"samples: {num_samples:,}", *notes, f"index: {index_path(location)}")
    if options.audit:
        from aimv2.tools.data_audit import audit  # here, because indexing needs none of its packages

        _write_audit(names, audit(names, run_config(values).data, options.num, workers, console))
    return 0


def _prepare(title: str, location: Location, workers: int) -> tuple[int, list[str]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn())
    with Interrupts().listening(), Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(title, total=None)
        return prepare_location(
            location, workers, lambda done, total: progress.update(task, completed=done, total=total)
        )


def _print(*lines: str) -> None:
    console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)


def _write_audit(names: Sequence[str], values: Mapping[str, Any]) -> None:
    """Write findings beside the first source, add keys of leaked pairs to a file beside theirs, and print both."""
    findings = Path(names[0]).with_suffix(".audit.json")
    write_json(findings, values)
    lines = [f"wrote {findings}"]
    for name, keys in values["leaked"].items():
        if not keys or isinstance(read_description(name), LabelledDescription):
            continue
        path = Path(name).with_suffix(LEAKS)
        before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        write_text(path, "".join(f"{key}\n" for key in dict.fromkeys([*before, *keys])))
        lines.append(
            f"wrote {path}: {len(keys):,} training pairs, of those read, whose images are also held out or in an"
            f" evaluation set; the line exclude: {path.name} in {Path(name).name}, and indexing again, leaves them out"
        )
    _print(*values["summary"], *lines)


def _advice(typed: str) -> str:
    """Return what to write where this was typed in the place of a description."""
    path = Path(typed)
    if path.suffix == ".arrow" or any((path / name).is_file() for name in OF_DATASETS):
        return "pack the images of a saved dataset into shards"
    if path.suffix in SUFFIXES:
        return f"write one with the lines folder: {path.parent}, table: {path.name} and short: COLUMN"
    return f"write one with the lines {'folder' if path.is_dir() else 'shards'}: {typed} and short: txt"
