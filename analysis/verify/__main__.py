"""``python -m aimv2.analysis.verify``."""

import sys

from aimv2.analysis.verify.report import verify_command
from aimv2.config.arguments import as_typed, guarded, script_of

sys.exit(script_of(lambda arguments: guarded(verify_command, arguments, as_typed("verify"))))
