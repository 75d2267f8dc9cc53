"""Values of a run by their paths, such as ``model.decoder.width``. Nothing here imports torch."""

from collections.abc import Mapping
from typing import Any

from aimv2.config.run_config import RunConfig, flatten, from_dict, to_dict
from aimv2.errors import unknown


def replaced(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Return the run with some of its values replaced, all at once, because single ones may contradict the others.

    Args:
        values: new values by path. A mapping at the path of a whole part replaces that part; keys that it leaves out
            have their defaults.

    Raises:
        UsageError: an unknown path or an invalid value.
    """
    changed = to_dict(config)
    for path, value in values.items():
        *groups, name = path.split(".")
        owner: Any = changed
        for group in groups:
            owner = owner.setdefault(group, {}) if isinstance(owner, dict) else None
        if not isinstance(owner, dict):
            raise unknown("key", path, flatten(changed))
        owner[name] = dict(value) if isinstance(value, Mapping) else value
    return from_dict(changed)


def value_at(config: RunConfig, path: str) -> Any:
    """Return the value, or the part, at a path that exists."""
    found: Any = config
    for name in path.split("."):
        found = getattr(found, name)
    return found


def differences(config: RunConfig, other: RunConfig) -> dict[str, Any]:
    """Return the values of the first run, by path, that differ from the second's."""
    others = flatten(to_dict(other))
    return {path: value for path, value in flatten(to_dict(config)).items() if value != others[path]}
