"""``python -m aimv2``: the command line of ``aimv2.cli``."""

import sys

from aimv2.cli import script

sys.exit(script())
