"""The command line ``aimv2``, or ``python -m aimv2``: its commands, each with its help, which is imported apart because
commands load slowly."""

import os
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import NamedTuple

from aimv2 import __version__
from aimv2.base.errors import UsageError, missing, require, unknown
from aimv2.base.plugins import VARIABLE
from aimv2.config.arguments import HELP, as_typed, guarded, print_error, script_of

SUBMIT = "aimv2.sweeps.launch:submit_command"  # of train with executor=; training works without sweeps


class Command(NamedTuple):
    """A command.

    Attributes:
        call: its function, as ``module:function``, from its arguments to the exit status.
        usage: the function that returns its help, in a module that imports no torch, pandas or study.
        summary: for the list of commands.
        handles_errors: True if the function prints its errors itself.
        needs: the package without which it does nothing; others are found missing where they are imported.
    """

    call: str
    usage: str
    summary: str
    handles_errors: bool = False
    needs: str = ""


COMMANDS = {
    "sweep": Command(
        "aimv2.sweeps.launch:main",
        "aimv2.sweeps.usage:launch_usage",
        "execute the runs of a study, each once, and write its report",
        handles_errors=True,
    ),
    "manage": Command(
        "aimv2.sweeps.manage:main",
        "aimv2.sweeps.usage:manage_usage",
        "show, repeat, extend and cancel sweeps",
        handles_errors=True,
    ),
    "report": Command(
        "aimv2.analysis.report:main",
        "aimv2.analysis.usage:report_usage",
        "write reports, and check a claim of the paper",
        handles_errors=True,
    ),
    "scaling": Command(
        "aimv2.analysis.scaling:main",
        "aimv2.analysis.usage:scaling_usage",
        "fit a scaling law to a table of runs",
        handles_errors=True,
    ),
    "verify": Command(
        "aimv2.analysis.verify.__main__:verify_command",
        "aimv2.analysis.usage:verify_usage",
        "check a trained run against the definitions of the paper",
        needs="torch",
    ),
    "train": Command(
        "aimv2.run.command:train_command",
        "aimv2.run.options:train_usage",
        "train and evaluate one run, and evaluate its untrained encoder",
        needs="torch",
    ),
    "cost": Command(
        "aimv2.tools.cost:cost_command",
        "aimv2.tools.options:cost_usage",
        "print parameters, FLOPs, memory and setup of a run, without training it",
    ),
    "data": Command(
        "aimv2.tools.data_index:data_command",
        "aimv2.tools.options:data_usage",
        "index, check, write and draw image-text pairs",
        needs="PIL",
    ),
    "weights": Command(
        "aimv2.tools.weights_command:weights_command",
        "aimv2.tools.options:weights_usage",
        "convert public AIMv2 weights (transformers, ml-aim)",
        needs="torch",
    ),
    "evaluate": Command(
        "aimv2.tools.evaluate:evaluate_command",
        "aimv2.tools.options:evaluate_usage",
        "measure a run or public weights on a labelled set",
        needs="torch",
    ),
}
USAGE = """usage: {typed} COMMAND [key=value ...]

{commands}

  COMMAND --help               show the keys of a command
  --version                    print the version
  debug=true                   (every command) show the traceback of an error

To measure speed, in a clone: python -m benchmarks.
"""


def main(arguments: Sequence[str]) -> int:
    """Run a command and return the exit status: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    if not arguments or arguments[0] in HELP:
        print(usage(), end="")
        return 0 if arguments else 2
    name, *rest = arguments
    if name == "--version":
        print(f"aimv2-ablations {__version__}")
        return 0
    if name in COMMANDS and HELP & set(rest) and not has_plugins(rest):  # the command's own has what they add
        print(usage_of(name, rest), end="")
        return 0
    if name not in COMMANDS:
        return print_error(unknown("command", name, COMMANDS))
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


def usage() -> str:
    """Return the list of commands."""
    rows = (f"  {name:29}{command.summary}" for name, command in COMMANDS.items())
    return USAGE.format(typed=as_typed("").strip(), commands="\n".join(rows))


def usage_of(name: str, arguments: Sequence[str] = ()) -> str:
    """Return the help of a command, or of the command of it that the first argument names."""
    text: str = resolve_name(COMMANDS[name].usage)(arguments)
    return text


def has_plugins(words: Sequence[str]) -> bool:
    """True if a command has plug-ins: those that are typed, or that its process was given."""
    return any(word.startswith("plugins=") for word in words) or VARIABLE in os.environ


def script() -> int:
    """Run the command that was typed."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return script_of(main)
