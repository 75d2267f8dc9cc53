"""One sentence for a value that pydantic refuses. Nothing here imports configs, so that helps of commands load fast."""

import dataclasses
from typing import Any, get_args

from pydantic import ValidationError

from aimv2.base.errors import UsageError, did_you_mean, short, unknown


def explain(error: ValidationError, kind: Any = None) -> UsageError:
    """Turn the first error that pydantic found into one sentence, with the closest name as a suggestion.

    Args:
        kind: the dataclass that was to be built; needed if its keys are typed.
    """
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
