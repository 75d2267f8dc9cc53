"""``python -m benchmarks``: run a benchmark and print its tables as Markdown."""

import os
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import get_type_hints

import torch

from aimv2.base.errors import count, unknown
from aimv2.config.arguments import HELP, guarded, read_options, script_of, usage
from aimv2.memory.machine import hardware, num_cores
from benchmarks.timing import Timed, TimedOnDevice, versions

# Each is a module with a docstring for the help, and measure(options: …Options), which yields Tables. It is imported
# when it is called, because each loads the packages that it compares with.
BENCHMARKS = {
    "encoder": "the encoder beside timm's with the same weights, and beside CLIP, SigLIP and DINOv2",
    "step": "training steps beside a matrix product",
    "data": "the loading of shards beside webdataset with torchvision",
}
USAGE = """usage: python -m benchmarks BENCHMARK [key=value ...]

{names}

  BENCHMARK --help             show the keys of a benchmark
  debug=true                   show the traceback of an error
"""


def benchmarks_command(arguments: Sequence[str]) -> int:
    name, *rest = arguments or ["--help"]
    if name not in BENCHMARKS:
        if not HELP & {name, *rest}:
            raise unknown("benchmark", name, BENCHMARKS)
        names = "\n".join(f"  {name:29}{summary}" for name, summary in BENCHMARKS.items())
        print(USAGE.format(names=names), end="")
        return 0
    module = import_module(f"benchmarks.{name}")
    kind = get_type_hints(module.measure)["options"]
    if HELP & set(rest):
        print(usage(f"python -m benchmarks {name} [key=value ...]", module.__doc__ or "", kind), end="")
        return 0
    options = read_options(kind, rest)
    assert isinstance(options, Timed), "all benchmarks time calls"
    device = options.resolved_device if isinstance(options, TimedOnDevice) else "cpu"
    torch.set_num_threads(options.threads or num_cores())
    tables = list(module.measure(options))
    machine = f"{hardware(device)}, {count(torch.get_num_threads(), 'thread')}"
    command = shlex.join(["python", "-m", "benchmarks", *arguments])
    print(f"`{command}`:", ", ".join([machine, *versions()]) + f"; {datetime.now(UTC):%Y-%m-%d}")
    for table in tables:
        print("\n" + table.to_markdown())
    return 0


if __name__ == "__main__":  # not in the processes that benchmarks start
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(script_of(lambda arguments: guarded(benchmarks_command, arguments)))
