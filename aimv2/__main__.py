"""``python -m aimv2 train [key=value …]``: train and evaluate one run."""

import os
import sys

from aimv2.cli import main

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.exit(main(sys.argv[1:]))
