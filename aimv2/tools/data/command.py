"""``python -m aimv2 data``: describe, index, audit, write and show data."""

from collections.abc import Sequence
from pkgutil import resolve_name

from aimv2.base.errors import unknown
from aimv2.config.arguments import HELP

USAGE = """usage: python -m aimv2 data COMMAND [...]

  describe PATH                write the description of data from what is seen in them, and index them
  index FILE.yaml ...          index the data of descriptions; audit=true reports what is in them
  write to=FOLDER              write pairs of any source as tar shards
  show to=sheet.png            draw samples as training sees them

  COMMAND --help               show the arguments of a command
"""

COMMANDS = {  # imported when they are called
    "describe": "aimv2.tools.data.describe:describe_command",
    "index": "aimv2.tools.data.index:index_command",
    "write": "aimv2.tools.data.write:write_command",
    "show": "aimv2.tools.data.show:show_command",
}


def data_command(arguments: Sequence[str]) -> int:
    """Run a command on data and return its exit status.

    Raises:
        UsageError: there is no such command, or its arguments are invalid.
    """
    if not arguments or arguments[0] in HELP:
        print(USAGE, end="")
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        raise unknown("data command", name, COMMANDS)
    status: int = resolve_name(COMMANDS[name])(rest)
    return status
