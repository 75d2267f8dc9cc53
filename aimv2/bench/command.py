"""``python -m aimv2 bench``: choose a benchmark."""

from collections.abc import Sequence
from pkgutil import resolve_name

from aimv2.base.errors import unknown
from aimv2.config.arguments import HELP

BENCHMARKS = {  # imported when they are called, because each loads the packages that it compares with
    "encoder": "benchmarks.encoder:encoder_command",
    "step": "benchmarks.step:step_command",
    "data": "benchmarks.data:data_command",
}
USAGE = """usage: python -m aimv2 bench BENCHMARK [key=value ...]

  encoder                      the encoder beside timm's and transformers'
  step                         training steps beside a matrix product
  data                         the loading of shards beside webdataset and a bare loop

  BENCHMARK --help             show the keys of a benchmark
  debug=true                   show the traceback of an error
"""


def bench_command(arguments: Sequence[str]) -> int:
    """Run a benchmark and print its timings.

    Raises:
        UsageError: the benchmark is unknown, or refuses its arguments.
        RunFailedError: a benchmark finds that implementations differ.
    """
    name, *rest = arguments or [""]
    if name in BENCHMARKS:
        status: int = resolve_name(BENCHMARKS[name])(rest)
        return status
    if HELP & set(arguments):
        print(USAGE, end="")
        return 0
    raise unknown("benchmark", name, BENCHMARKS)
