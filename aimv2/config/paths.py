"""Values of a run by their paths, such as ``model.decoder.width``."""

import dataclasses
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from aimv2.base.errors import unknown
from aimv2.config.program import Program, Run, flattened

PARAMETERS = "prefix.parameters."  # paths of the parameters of a plug-in's distribution


def replaced(config: Run, values: Mapping[str, Any]) -> Run:
    """Return the run with some of its values replaced together, because single ones may contradict the others."""
    changed = dict(vars(config))
    for path, value in values.items():
        *groups, name = path.split(".")
        owner: Any = changed
        for group in groups:
            part = owner.setdefault(group, {})
            if dataclasses.is_dataclass(part):  # parts without a change stay as they are: they are checked already
                owner[group] = dict(vars(part))
            elif isinstance(part, dict):  # a copy, since it may be that of the run
                owner[group] = dict(part)
            else:
                raise unknown("key", path, flattened(config.to_dict()))
            owner = owner[group]
        owner[name] = dict(value) if isinstance(value, Mapping) else value
    return config.from_dict(changed)


def value_at(config: Program, path: str) -> Any:
    """Return the value, or the part, at a path that exists; None for a parameter that is not given."""
    if path.startswith(PARAMETERS):
        return attrgetter(PARAMETERS.removesuffix("."))(config).get(path.removeprefix(PARAMETERS))
    return attrgetter(path)(config)


def differences(config: Program, other: Program) -> dict[str, Any]:
    """Return the values of the first run, by path, that differ from the second's."""
    others = flattened(other.to_dict())
    return {path: value for path, value in flattened(config.to_dict()).items() if value != others.get(path)}
