"""``python -m benchmarks``: the command line of ``benchmarks.command``."""

import os
import sys

from aimv2.config.arguments import guarded
from benchmarks.command import bench_command

if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(guarded(bench_command, sys.argv[1:]))
