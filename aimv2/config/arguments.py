"""Command lines: ``key=value`` arguments, typed values, and errors in one sentence."""

import dataclasses
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from aimv2.base import plugins
from aimv2.base.errors import RunFailedError, UsageError, did_you_mean, given_twice, missing, short, unknown
from aimv2.base.typed import keep_form

HELP = frozenset({"-h", "--help"})
NO_READER = 128 + signal.SIGPIPE  # the exit status of a command whose output nothing reads any more


def key_values(arguments: Sequence[str], allowed: Collection[str], kind: str = "key") -> dict[str, str]:
    """Parse arguments of the form ``key=value``, for commands that take no config."""
    values: dict[str, str] = {}
    for text in arguments:
        key, separator, value = text.partition("=")
        if not separator:
            raise UsageError(f"cannot read {text!r}: arguments have the form key=value")
        if key not in allowed:
            raise unknown(kind, key, allowed)
        if key in values:
            raise given_twice(key)
        if not value:
            raise UsageError(f"{key}= has no value")
        values[key] = value
    return values


def checked(key: str, kind: Any, value: Any) -> Any:
    """Convert a value to a type."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise UsageError(f"{key}: {explain(error, kind)}") from error


def script_of(main: Callable[[Sequence[str]], int]) -> int:
    """Run the command line that was typed, and return the exit status.

    If nothing reads its output any more, as after ``| head``, the command ends without a word.
    """
    keep_form()
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
        return status
    except (BrokenPipeError, SystemExit) as error:  # rich turns the one into the other
        if not isinstance(error, BrokenPipeError) and not isinstance(error.__context__, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what Python writes at its end
        return NO_READER


def guarded(command: Callable[[list[str]], int], arguments: Sequence[str], name: str = "this command") -> int:
    """Run a command; print errors that the user can fix as one sentence, and return the exit status.

    Two keys are of every command, and are removed from the arguments: with ``debug=true``, the traceback is printed
    too, and with ``plugins=[FILE.py,FOLDER]``, the command has these plug-ins besides those of installed packages.
    """
    common = [argument for argument in arguments if argument.startswith(("debug=", "plugins="))]
    debug = False
    try:
        values = key_values(common, ["debug", "plugins"])
        debug = checked("debug", bool, values.get("debug", False))
        paths = [Path(text) for text in values.get("plugins", "").strip("[]").split(",") if text]
        with plugins.using(paths):
            return command([argument for argument in arguments if argument not in common])
    except KeyboardInterrupt:
        from rich.console import Console  # here, so that helps of commands load fast

        Console().print("Interrupted. Run the same command to resume.", style="yellow")
        return 130
    except ModuleNotFoundError as error:
        if debug:
            traceback.print_exc()
        return print_error(missing(error, name))
    except (UsageError, OSError, RunFailedError) as error:
        if isinstance(error, BrokenPipeError) and _has_no_reader():
            raise
        if debug:
            traceback.print_exc()
        return print_error(error, status=2 if isinstance(error, UsageError) else 1)


def _has_no_reader() -> bool:
    """True if this process's output is a pipe that nothing reads any more."""
    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def print_error(error: Exception, *, status: int = 2) -> int:
    """Print the error's message to stderr and return the exit status."""
    from rich.console import Console

    Console(stderr=True).print(f"error: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
    return status


def explain(error: ValidationError, kind: Any = None) -> UsageError:
    """Turn the first error that pydantic found into one sentence, with the closest name as a suggestion."""
    first, *others = error.errors()
    where = [str(part) for part in first["loc"]]
    if kind is not None and first["type"] == "unexpected_keyword_argument":
        for part in where[:-1]:
            fields = {field.name: field.type for field in dataclasses.fields(kind)}
            declared = fields.get(part, kind)  # the key of a dict is no field
            kind = next(filter(dataclasses.is_dataclass, (declared, *get_args(declared))))  # of a union with None
        allowed = [".".join([*where[:-1], field.name]) for field in dataclasses.fields(kind)]
        return unknown("key", ".".join(where), allowed)
    if first["type"] == "tuple_type":
        return UsageError(f"{'.'.join(where)} is a list: write {'.'.join(where)}=[{first['input']}]")
    message = first["msg"].removeprefix("Value error, ").partition(", unable to ")[0]
    if where and where[-1].startswith("literal["):  # a name or a value of another type, which has an error of its own
        where.pop()
        kinds = [other["msg"] for other in others if other["loc"][:-1] == first["loc"][:-1]]
        message = " or ".join([message, *(kind.removeprefix("Input should be ").split(",")[0] for kind in kinds)])
    seen = "" if first["type"] in ("value_error", "missing") else f" (got {short(first['input'])})"
    if first["type"] == "literal_error":
        allowed = first["ctx"]["expected"].split("'")[1::2]  # from "'rms' or 'layer'"
        if hint := did_you_mean(str(first["input"]), allowed):
            seen += f".{hint}"
    place = ".".join(where)
    names_the_key = not place or f"{place}." in message
    return UsageError(message + seen if names_the_key else f"{place}: {message}{seen}")
