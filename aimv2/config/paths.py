"""Values of a run by their paths, such as ``model.decoder.width``. Nothing here imports torch."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from aimv2.config.run_config import RunConfig, explain, flatten, to_dict
from aimv2.errors import unknown


def replaced(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """The run with some of its values replaced.

    Args:
        values: by path. A path may name a whole part, with a mapping for it: the part is then built from that alone,
            and what the mapping leaves out has its default.

    Raises:
        UsageError: a path that does not exist, or a value that cannot be.
    """
    nested: dict[str, Any] = {}
    for path, value in values.items():
        *groups, name = path.split(".")
        owner = nested
        for group in groups:
            owner = owner.setdefault(group, {})
        owner[name] = _Whole(value) if isinstance(value, Mapping) else value
    try:
        changed: RunConfig = _replaced(config, nested, "")
        return changed
    except ValidationError as error:
        raise explain(error) from error


def value_at(config: RunConfig, path: str) -> Any:
    """The value, or the part, at a path that exists."""
    found: Any = config
    for name in path.split("."):
        found = getattr(found, name)
    return found


def differences(config: RunConfig, other: RunConfig) -> dict[str, Any]:
    """The values, by path, that the first run has otherwise than the second."""
    theirs = flatten(to_dict(other))
    return {path: value for path, value in flatten(to_dict(config)).items() if value != theirs[path]}


@dataclasses.dataclass(frozen=True)
class _Whole:
    values: Mapping[str, Any]


def _replaced(part: Any, values: Mapping[str, Any], prefix: str) -> Any:
    """All values of a part at once, for one alone may contradict those still to come."""
    known = [field.name for field in dataclasses.fields(part)] if dataclasses.is_dataclass(part) else []
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise unknown("key", prefix + name, [prefix + other for other in known] or [prefix.rstrip(".")])
        old = getattr(part, name)
        if isinstance(value, _Whole):
            changes[name] = TypeAdapter(type(old)).validate_python(value.values)
        elif isinstance(value, Mapping):
            changes[name] = _replaced(old, value, f"{prefix}{name}.")
        else:
            changes[name] = value
    return dataclasses.replace(part, **changes)
