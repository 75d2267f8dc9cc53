"""The commands of ``aimv2``: where each lies, and its help, which is imported apart because commands load slowly."""

from collections.abc import Sequence
from pkgutil import resolve_name
from typing import NamedTuple

from aimv2.base.typed import as_typed


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
        "show, repeat, extend, cancel and export sweeps",
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
        "aimv2.analysis.verify.report:verify_command",
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
        "aimv2.tools.cost_options:cost_usage",
        "print parameters, FLOPs, memory and setup of a run, without training it",
    ),
    "data": Command(
        "aimv2.tools.data.command:data_command",
        "aimv2.tools.data.options:data_usage",
        "describe, index, check, write and draw image-text pairs",
        needs="PIL",
    ),
    "weights": Command(
        "aimv2.tools.weights.command:weights_command",
        "aimv2.tools.weights_options:weights_usage",
        "convert public AIMv2 weights (transformers, ml-aim)",
        needs="torch",
    ),
    "evaluate": Command(
        "aimv2.tools.evaluate.command:evaluate_command",
        "aimv2.tools.evaluate.options:evaluate_usage",
        "measure a run or public weights on a labelled set",
        needs="torch",
    ),
}

USAGE = """usage: {typed} COMMAND [key=value ...]

{commands}

  completion bash|zsh|fish     print a script that completes commands, keys and values: eval "$(aimv2 completion bash)"
  COMMAND --help               show the keys of a command
  --version                    print the version
  debug=true                   (every command) show the traceback of an error

To measure speed, in a clone: python -m benchmarks.
"""


def usage() -> str:
    """Return the list of commands."""
    rows = (f"  {name:29}{command.summary}" for name, command in COMMANDS.items())
    return USAGE.format(typed=as_typed("").strip(), commands="\n".join(rows))


def usage_of(name: str, arguments: Sequence[str] = ()) -> str:
    """Return the help of a command, or of the command of it that the first argument names."""
    text: str = resolve_name(COMMANDS[name].usage)(arguments)
    return text
