"""Values of a run by their paths, such as ``model.decoder.width``."""

import dataclasses
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from pydantic import TypeAdapter, ValidationError

from aimv2.base.errors import UsageError, short, unknown
from aimv2.config.arguments import explain
from aimv2.config.program import KIND, PROGRAMS, Program, Run, flattened
from aimv2.config.run_config import RunConfig

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


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Return the config as nested dicts of JSON values."""
    values: dict[str, Any] = TypeAdapter(RunConfig).dump_python(config, mode="json")
    return values


def from_dict(values: Mapping[str, Any]) -> RunConfig:
    """Build and check a config from nested dicts, as read from YAML or JSON."""
    try:
        return TypeAdapter(RunConfig).validate_python(values)
    except ValidationError as error:
        raise explain(error, RunConfig) from error


def program_of(values: Mapping[str, Any]) -> Program:
    """Build and check the run of any program from the values of its ``to_dict``."""
    if (kind := values.get(KIND)) is None:
        return from_dict(values)
    if kind not in PROGRAMS:
        raise UsageError(f"runs of {short(kind)} are of a plug-in; pass the file that adds it: plugins=[FILE.py]")
    return PROGRAMS[kind].from_dict(values)
