"""The command line ``python -m aimv2``: train, price, convert weights, evaluate them, index data."""

import os
from collections.abc import Sequence
from pkgutil import resolve_name

from aimv2.base.errors import UsageError, unknown
from aimv2.config.arguments import HELP, guarded, print_error, script_of

USAGE = """usage: python -m aimv2 COMMAND [key=value ...]

  train                        train and evaluate one run, and evaluate its untrained encoder
  cost                         print parameters, FLOPs, memory and setup of a run, without training it
  weights import|export        convert public AIMv2 weights (transformers, ml-aim): from=PATH to=FOLDER
  data index|write|show        index, check, write and draw image-text pairs
  evaluate                     measure a run or public weights on a labelled set: weights=PATH data=FILE.yaml

  COMMAND --help               show the keys of a command
  debug=true                   (every command) show the traceback of an error

To check a trained run: python -m aimv2.analysis.verify. To measure speed, in a clone: python -m benchmarks.
"""

COMMANDS = {  # imported when they are called, because some load torch
    "train": "aimv2.run.command:train_command",
    "cost": "aimv2.tools.cost:cost_command",
    "weights": "aimv2.tools.weights.command:weights_command",
    "evaluate": "aimv2.tools.evaluate.command:evaluate_command",
    "data": "aimv2.tools.data.command:data_command",
}
SUBMIT = "aimv2.sweeps.submit:submit_command"  # of train with executor=; training works without sweeps


def main(arguments: Sequence[str]) -> int:
    """Run a command and return the exit status: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    if not arguments or arguments[0] in HELP:
        print(USAGE, end="")
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        return print_error(unknown("command", name, COMMANDS))
    is_submitted = name == "train" and any(word.startswith("executor=") for word in rest)
    target = SUBMIT if is_submitted else COMMANDS[name]
    try:
        command = resolve_name(target)
    except ModuleNotFoundError as error:
        if not target.startswith(str(error.name)):
            raise
        return print_error(UsageError(f"{name} is a command of {error.name}, which is not installed"))
    return guarded(command, rest)


def script() -> int:
    """Run the command that was typed."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return script_of(main)
