"""``python -m analysis.verify``."""

import sys

from aimv2.config.arguments import guarded, script_of
from analysis.verify.command import verify_command

sys.exit(script_of(lambda arguments: guarded(verify_command, arguments)))
