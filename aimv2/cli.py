"""The command line ``aimv2``, or ``python -m aimv2``."""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pkgutil import resolve_name

from aimv2 import __version__
from aimv2.base.errors import UsageError, missing, require, unknown
from aimv2.base.plugins import GROUP, VARIABLE
from aimv2.base.typed import as_typed
from aimv2.commands import COMMANDS, usage, usage_of
from aimv2.completion import SCRIPTS, completions
from aimv2.config.arguments import HELP, guarded, print_error, script_of

SUBMIT = "aimv2.sweeps.submit:submit_command"  # of train with executor=; training works without sweeps


def main(arguments: Sequence[str]) -> int:
    """Run a command and return the exit status: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    if not arguments or arguments[0] in HELP:
        print(usage(), end="")
        return 0 if arguments else 2
    name, *rest = arguments
    if name == "--version":
        print(f"aimv2-ablations {__version__}")
        return 0
    if name == "completion" and HELP & set(rest):
        print(usage(), end="")
        return 0
    if name in ("complete", "completion"):
        return _complete(name, rest)
    if name in COMMANDS and HELP & set(rest) and not has_plugins(rest):  # the command's own has what they add
        print(usage_of(name, rest), end="")
        return 0
    if name not in COMMANDS:
        return print_error(unknown("command", name, [*COMMANDS, "completion"]))
    is_submitted = name == "train" and any(word.startswith("executor=") for word in rest)
    target = SUBMIT if is_submitted else COMMANDS[name].call
    try:
        if COMMANDS[name].needs:
            require(COMMANDS[name].needs, as_typed(name))
        command = resolve_name(target)
    except UsageError as error:
        return print_error(error)
    except ModuleNotFoundError as error:
        if target.startswith(str(error.name)):
            return print_error(UsageError(f"{name} is a command of {error.name}, which is not installed"))
        if "debug=true" in rest:
            raise
        return print_error(missing(error, as_typed(name)))
    return int(command(rest)) if COMMANDS[name].handles_errors else guarded(command, rest, as_typed(name))


def has_plugins(words: Sequence[str]) -> bool:
    """True if a command has plug-ins: those that are typed, that its process was given, or of installed packages."""
    return (
        any(word.startswith("plugins=") for word in words) or VARIABLE in os.environ or bool(entry_points(group=GROUP))
    )


def _complete(name: str, words: Sequence[str]) -> int:
    if name == "complete":
        print(*completions(words), sep="\n")
    elif len(words) == 1 and words[0] in SCRIPTS:
        print(SCRIPTS[words[0]], end="")
    else:
        print(f"usage: {as_typed('completion')} {'|'.join(SCRIPTS)}", file=sys.stderr)
        return 2
    return 0


def script() -> int:
    """Run the command that was typed."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return script_of(main)
