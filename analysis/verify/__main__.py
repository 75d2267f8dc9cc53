"""``python -m analysis.verify``."""

import sys

from aimv2.config.arguments import guarded
from analysis.verify.command import verify_command

sys.exit(guarded(verify_command, sys.argv[1:]))
