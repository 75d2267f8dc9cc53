"""Command lines: arguments of the form ``key=value``, options with their help, errors in one sentence.

A dataclass declares the options of a command, a field each. ``Field`` gives a field what the help shows:
``description``, and ``examples`` with one value to type if the default is None or missing. An ``alias`` is the key as
typed. A field that is a dataclass is a group of options, ``group.name``.

    @dataclass(frozen=True, kw_only=True, config=CHECKED)
    class Options:
        weights: str = Field(description="a finished run", examples=["PATH"])
        workers: int = Field(default=0, ge=0, description="processes that decode images")
"""

import dataclasses
import os
import select
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from aimv2.base import plugins
from aimv2.base.errors import RunFailedError, UsageError, did_you_mean, given_twice, missing, short, unknown

HELP = frozenset({"-h", "--help"})
NO_READER = 128 + signal.SIGPIPE  # the exit status of a command whose output nothing reads any more
COLUMN = 31  # of the descriptions in a help
WIDTH = 119
DEBUG = ("debug=true", "show the traceback of an error")
FORM = "AIMV2_TYPED"  # environment variable: the form that was typed, for the processes that a command starts
COMMAND, CLONE = "aimv2", "clone"
SCRIPTS = {
    "sweep": "python sweeps/launch.py",
    "manage": "python sweeps/manage.py",
    "report": "python analysis/report.py",
    "scaling": "python analysis/scaling.py",
    "verify": "python -m aimv2.analysis.verify",
}
PACKAGE = Path(__file__).parents[1]
Options = TypeVar("Options")


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
    too, and with ``plugins=[FILE.py,FOLDER]``, the command has these plug-ins.
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


def read_options(kind: type[Options], arguments: Sequence[str], needs: str = "the command needs") -> Options:
    """Read arguments as the options of a command."""
    fields = dict(_fields(kind))
    values: dict[str, Any] = {}
    given = key_values(arguments, fields)
    for key, text in given.items():
        *groups, name = key.split(".")
        owner = values
        for group in groups:
            owner = owner.setdefault(group, {})
        owner[name] = _listed(key, text) if text.startswith("[") else text
    if required := [_shown(key, field) for key, field in fields.items() if field.is_required() and key not in given]:
        raise UsageError(f"{needs} {' and '.join(required)}")
    return options_of(kind, values)


def options_of(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """Build options from nested values, of which those of other keys are left out; an invalid one is a UsageError."""
    own = {key.partition(".")[0] for key, _ in _fields(kind)}
    try:
        return TypeAdapter(kind).validate_python({key: value for key, value in values.items() if key in own})
    except ValidationError as error:
        raise explain(error, kind) from error


def defaults_of(kind: type) -> dict[str, Any]:
    """Return the default of each option by its key, for ``compose``; an option without a default has None."""
    return {key: None if field.is_required() else field.default for key, field in _fields(kind)}


def typed(key: str, value: object) -> str:
    """Return an option as it is typed."""
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, tuple):
        value = f"[{','.join(map(str, value))}]"
    return f"{key}={value}"


def usage(line: str, summary: str, kind: type, notes: str = "") -> str:
    """Return the help of a command."""
    rows = [(_shown(key, field), field.description or "") for key, field in _fields(kind)]
    options = [_row(shown, description) for shown, description in rows]
    paragraphs = [textwrap.fill(" ".join(part.split()), WIDTH) for part in summary.split("\n\n")]
    table = "\n".join([*options, *filter(None, [notes]), _row(*DEBUG)])
    return "\n\n".join([f"usage: {line}", *paragraphs, table]) + "\n"


def _fields(kind: type, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield the options by key, those of groups too."""
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.type):
            assert isinstance(field.type, type), "an option's type is no instance"
            yield from _fields(field.type, f"{prefix}{field.name}.")
        else:
            info = kind.__pydantic_fields__[field.name]  # type: ignore[attr-defined]  # a dataclass of pydantic
            yield f"{prefix}{info.alias or field.name}", info


def _shown(key: str, field: FieldInfo) -> str:
    """Return an option as it is typed: with an example, or its default."""
    return typed(key, field.examples[0] if field.examples else field.default)


def _row(shown: str, description: str) -> str:
    lines = textwrap.wrap(description, WIDTH - COLUMN)
    if len(shown) > COLUMN - 4:
        lines.insert(0, "")
    else:
        shown = f"{shown:{COLUMN - 2}}"
    return "\n".join([f"  {shown}{lines[0]}".rstrip(), *(" " * COLUMN + line for line in lines[1:])])


def _listed(key: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{key}={text} is not a list such as [1,2]") from error


def as_typed(command: str) -> str:
    """Return how a command is typed: ``aimv2 manage``, or ``python sweeps/manage.py`` in a clone."""
    if _form() == COMMAND:
        return f"{COMMAND} {command}".rstrip()
    return SCRIPTS.get(command, f"python -m aimv2 {command}".rstrip())


def keep_form() -> None:
    """Have the processes that this one starts print the same form; they may run from a snapshot of the code."""
    os.environ[FORM] = _form()


def _form() -> str:
    program = Path(sys.argv[0] if sys.argv else "")
    return os.environ.get(FORM) or form_of(program, PACKAGE)


def form_of(program: Path, package: Path) -> str:
    """Return the form that fits a program and the package that it runs."""
    is_clone = (package.parent / "sweeps" / "launch.py").exists() and (package / "sweeps").is_symlink()
    return CLONE if is_clone and program.stem != COMMAND else COMMAND
