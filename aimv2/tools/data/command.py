"""``python -m aimv2 data``: describe, index, audit, write and show data."""

from collections.abc import Sequence
from pkgutil import resolve_name

from aimv2.base.errors import unknown
from aimv2.config.arguments import HELP
from aimv2.tools.data.options import data_usage

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
        print(data_usage(), end="")
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        raise unknown("data command", name, COMMANDS)
    status: int = resolve_name(COMMANDS[name])(rest)
    return status
