"""The options of a command: a dataclass that reads ``key=value`` arguments and prints its own help.

A field is an option. ``Field`` gives it what the help shows: ``description``, and ``examples`` with one value to type
if the default is None or missing. An ``alias`` is the key as it is typed. A field that is a dataclass is a group of
options, ``group.name``.

    @dataclass(frozen=True, kw_only=True, config=CHECKED)
    class Options:
        weights: str = Field(description="a finished run", examples=["PATH"])
        workers: int = Field(default=0, ge=0, description="processes that decode images")
"""

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from aimv2.base.errors import UsageError
from aimv2.config.arguments import explain, key_values

Options = TypeVar("Options")

COLUMN = 31  # of the descriptions in a help
WIDTH = 119
DEBUG = ("debug=true", "show the traceback of an error")


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
    if missing := [_shown(key, field) for key, field in fields.items() if field.is_required() and key not in given]:
        raise UsageError(f"{needs} {' and '.join(missing)}")
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
