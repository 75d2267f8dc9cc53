"""``python -m benchmarks``: run a benchmark, print its tables, and keep them."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import torch

from aimv2.base.errors import UsageError, count, unknown
from aimv2.base.files import write_text
from aimv2.base.hardware import hardware
from aimv2.config.arguments import HELP
from aimv2.config.options import read_options, usage
from benchmarks.options import Kept, Timed, TimedOnDevice, command_of
from benchmarks.results import FILE, PAGE, Result, keep, page, read_results, to_markdown, versions
from benchmarks.timing import limited

# Each is a module with a docstring for the help, and measure(options: …Options), which yields Tables. It is imported
# when it is called, because each loads the packages that it compares with.
BENCHMARKS = {
    "encoder": "the encoder beside timm's and transformers', with the same weights",
    "costs": "encoders of the size of ViT-L and steps of all objectives, for reports/costs/",
    "step": "training steps beside a matrix product, by part",
    "data": "the loading of shards beside webdataset",
    "remote": "what is fetched of shards behind URLs, and waits for it",
    "ledger": "file operations of workers, boards and status",
}
USAGE = """usage: python -m benchmarks BENCHMARK [key=value ...]

{names}

  all [json=FILE]              run all of them, each in a new process
  page [json=FILE]             write the page of kept results, {page}, by default from {file}

  BENCHMARK --help             show the keys of a benchmark
  debug=true                   show the traceback of an error
"""


def benchmarks_command(arguments: Sequence[str]) -> int:
    """Run a benchmark and print its tables; ``all`` runs all of them, ``page`` writes the kept results as a page.

    Raises:
        UsageError: the benchmark is unknown, or refuses its arguments.
        RunFailedError: a benchmark finds that implementations differ.
    """
    name, *rest = arguments or ["--help"]
    if name not in BENCHMARKS and HELP & set(arguments or ["--help"]):
        names = "\n".join(f"  {name:29}{summary}" for name, summary in BENCHMARKS.items())
        print(USAGE.format(names=names, page=PAGE, file=FILE), end="")
        return 0
    if name in BENCHMARKS:
        return _run(name, rest)
    if name not in ("all", "page"):
        raise unknown("benchmark", name, [*BENCHMARKS, "all", "page"])
    options = read_options(Kept, rest)
    if name == "page":
        write_text(Path(PAGE), page(read_results(Path(options.json or FILE))))
        return 0
    commands = [[sys.executable, "-m", "benchmarks", each, *rest] for each in BENCHMARKS]
    return max([subprocess.run(command, check=False).returncode for command in commands])


def _run(name: str, arguments: Sequence[str]) -> int:
    module = import_module(f"benchmarks.{name}")
    kind: type[Kept] = get_type_hints(module.measure)["options"]
    if HELP & set(arguments):
        print(usage(f"python -m benchmarks {name} [key=value ...]", module.__doc__ or "", kind), end="")
        return 0
    options = read_options(kind, arguments)
    if options.json is not None and not Path(options.json).absolute().parent.is_dir():
        raise UsageError(f"json={options.json}: there is no such folder")
    device = options.found_device if isinstance(options, TimedOnDevice) else "cpu"
    tables = []
    with limited(options.threads if isinstance(options, Timed) else None):
        for table in module.measure(options):
            tables.append(table)
            print(*filter(None, [to_markdown(table), table.warning]), sep="\n\n", end="\n\n", flush=True)
        result = Result(
            benchmark=name,
            command=command_of(name, options),
            date=datetime.now(UTC).date().isoformat(),
            machine=f"{hardware(device)}, {count(torch.get_num_threads(), 'thread')}",
            versions=versions(),
            tables=tables,
        )
    print(result.machine, *(f"{package} {version}" for package, version in result.versions.items()), sep=", ")
    if options.json is not None:
        keep(result, Path(options.json))
    return 0
