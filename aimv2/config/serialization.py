"""A run's config as nested dicts of JSON values, and back, with one sentence for what cannot be read."""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from aimv2.base.errors import UsageError, did_you_mean, short, unknown
from aimv2.config.program import KIND, PROGRAMS, Program
from aimv2.config.run_config import RunConfig


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Return the config as nested dicts of JSON values."""
    values: dict[str, Any] = TypeAdapter(RunConfig).dump_python(config, mode="json")
    return values


def from_dict(values: Mapping[str, Any]) -> RunConfig:
    """Build and check a config from nested dicts, as read from YAML or JSON.

    Raises:
        UsageError: an unknown key or invalid value; the message names it and what is allowed.
    """
    try:
        return TypeAdapter(RunConfig).validate_python(values)
    except ValidationError as error:
        raise explain(error) from error


def program_of(values: Mapping[str, Any]) -> Program:
    """Build and check the run of any program from the values of its ``to_dict``.

    Raises:
        UsageError: as ``from_dict``, or the program is of a plug-in that is not loaded.
    """
    if (kind := values.get(KIND)) is None:
        return from_dict(values)
    if kind not in PROGRAMS:
        raise UsageError(f"runs of {short(kind)} are of a plug-in; pass the file that adds it: plugins=[FILE.py]")
    return PROGRAMS[kind].from_dict(values)


def explain(error: ValidationError, kind: Any = RunConfig) -> UsageError:
    """Turn the first error that pydantic found into one sentence, with the closest name as a suggestion.

    Args:
        kind: the dataclass that was to be built.
    """
    first, *others = error.errors()
    where = [str(part) for part in first["loc"]]
    if first["type"] == "unexpected_keyword_argument":
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
