"""``python -m aimv2 data index``: find all samples of described data once, so that they are read without a search."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from aimv2.base.errors import UsageError
from aimv2.base.files import write_json, write_text
from aimv2.base.interrupt import Interrupts
from aimv2.config.arguments import HELP, defaults_of, options_of
from aimv2.config.data_config import DataConfig, is_described
from aimv2.datasets.description import SPLITS, SUFFIXES, Location, is_labelled, read_labelled, read_source
from aimv2.datasets.index import index_path
from aimv2.datasets.open import prepare_location
from aimv2.memory.machine import num_cores
from aimv2.request.compose import compose, run_config
from aimv2.tools.data.command import IndexOptions, usage_of

LEAKS = ".leaks.txt"  # suffix of the file with the keys of leaked training pairs
console = Console()


def index_command(arguments: Sequence[str]) -> int:
    """Index the data of descriptions, print a summary, and audit the data on request."""
    if not arguments or HELP & set(arguments):
        print(usage_of("index"), end="")
        return 0 if arguments else 2
    names = [text for number, text in enumerate(arguments) if not number or "=" not in text or is_described(text)]
    given = [text for text in arguments if text not in names]
    values = compose(given, defaults={}, values=defaults_of(IndexOptions))
    options = options_of(IndexOptions, values)
    workers = options.workers or num_cores()
    if options.audit:
        _audit(names, run_config(values).data, options.num, workers)
        return 0
    if of_audit := [text for text in given if text.startswith(("num=", "data."))]:
        raise UsageError(f"{' '.join(of_audit)}: that is of an audit; type audit=true too")
    for name in names:
        if not is_described(name):
            raise UsageError(
                f"{name!r} is no description ({' or '.join(SUFFIXES)}); write one with a line: shards: {name}"
            )
    for name in names:
        _index_description(Path(name), workers)
    return 0


def _index_description(path: Path, workers: int) -> None:
    if is_labelled(path):
        described = read_labelled(path)
        for split in SPLITS:
            if location := getattr(described, split):
                _index(f"{path} {split}", location, workers)
    else:
        _index(str(path), read_source(path), workers)


def _audit(names: Sequence[str], config: DataConfig, num: int, workers: int) -> None:
    """Index descriptions, and report what is in them and in built-in sources."""
    from aimv2.tools.data import audit

    audit.check_names(names)
    for name in filter(is_described, names):
        _index_description(Path(name), workers)
    values = audit.audit(names, config, num, workers, console)
    path = Path(names[0]).with_suffix(".audit.json")
    write_json(path, values)
    sources = [name for name in names if is_described(name) and not is_labelled(Path(name))]
    lines = [_write_keys(Path(name), keys) for name in sources if (keys := values["leaked"][name])]
    console.print(
        "\n".join([*values["summary"], f"wrote {path}", *lines]), markup=False, highlight=False, soft_wrap=True
    )


def _write_keys(description: Path, keys: Sequence[str]) -> str:
    """Add the keys of leaked training pairs to the file beside a description, and return a line on it."""
    path = description.with_suffix(LEAKS)
    before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    write_text(path, "".join(f"{key}\n" for key in dict.fromkeys([*before, *keys])))
    return (
        f"wrote {path}: {len(keys):,} training pairs, of those read, whose images are also held out or in an evaluation"
        f" set; the line exclude: {path.name} in {description.name}, and indexing again, leaves them out"
    )


def _index(title: str, location: Location, workers: int) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn())
    with Interrupts().listening(), Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(title, total=None)

        def show(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        indexed = prepare_location(location, workers, show)
    lines = (f"samples: {indexed.num_samples:,}", *indexed.notes, f"index: {index_path(location)}")
    console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)
