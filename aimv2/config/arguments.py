"""Checks of command-line arguments and typed values; each error is one sentence."""

from collections.abc import Collection, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from aimv2.base.errors import UsageError, given_twice, unknown
from aimv2.config.serialization import explain

HELP = frozenset({"-h", "--help"})


def key_values(arguments: Sequence[str], allowed: Collection[str], kind: str = "key") -> dict[str, str]:
    """Parse arguments of the form ``key=value``, for commands that take no config.

    Raises:
        UsageError: an argument has another form or no value, or a key is not allowed or given twice.
    """
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
    """Convert a value to a type.

    Raises:
        UsageError: the value does not fit the type; the message starts with the key.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise UsageError(f"{key}: {explain(error)}") from error
