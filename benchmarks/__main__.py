"""``python -m benchmarks``: the command line of ``benchmarks.command``."""

import os
import sys

from aimv2.config.arguments import guarded, script_of
from benchmarks.command import benchmarks_command

if __name__ == "__main__":  # not in the processes that benchmarks start
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(script_of(lambda arguments: guarded(benchmarks_command, arguments)))
