"""``python -m aimv2 data``: index data in files."""

from collections.abc import Sequence
from pkgutil import resolve_name

from aimv2.config.arguments import HELP
from aimv2.errors import unknown

USAGE = """usage: python -m aimv2 data COMMAND [...]

  index FILE.yaml              index the data of a description, so that they can be read

  COMMAND --help               show the arguments of a command
"""

COMMANDS = {  # imported when they are called
    "index": "aimv2.data.commands.index:index_command",
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
