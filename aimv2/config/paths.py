"""Values of a run by their paths, such as ``model.decoder.width``."""

import dataclasses
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from aimv2.base.errors import unknown
from aimv2.config.run_config import RunConfig
from aimv2.config.serialization import flatten, from_dict, to_dict


def replaced(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Return the run with some of its values replaced together, because single ones may contradict the others.

    Args:
        values: new values by path. A mapping at the path of a whole part replaces that part; keys that it leaves out
            have their defaults.

    Raises:
        UsageError: an unknown path or an invalid value.
    """
    changed = dict(vars(config))
    for path, value in values.items():
        *groups, name = path.split(".")
        owner: Any = changed
        for group in groups:
            part = owner.setdefault(group, {})
            if dataclasses.is_dataclass(part):  # parts without a change stay as they are: they are checked already
                owner[group] = dict(vars(part))
            elif not isinstance(part, dict):
                raise unknown("key", path, flatten(to_dict(config)))
            owner = owner[group]
        owner[name] = dict(value) if isinstance(value, Mapping) else value
    return from_dict(changed)


def value_at(config: RunConfig, path: str) -> Any:
    """Return the value, or the part, at a path that exists."""
    return attrgetter(path)(config)


def differences(config: RunConfig, other: RunConfig) -> dict[str, Any]:
    """Return the values of the first run, by path, that differ from the second's."""
    others = flatten(to_dict(other))
    return {path: value for path, value in flatten(to_dict(config)).items() if value != others[path]}
