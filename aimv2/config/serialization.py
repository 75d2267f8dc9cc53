"""A run's config as nested dicts of JSON values, and back."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from aimv2.base.errors import UsageError, short
from aimv2.config.explain import explain
from aimv2.config.program import KIND, PROGRAMS, Program
from aimv2.config.run_config import RunConfig

REMOVED_LOG_KEYS = ("mlflow", "trackio")  # of trackers that older versions had; stored configs still name them


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Return the config as nested dicts of JSON values."""
    values: dict[str, Any] = TypeAdapter(RunConfig).dump_python(config, mode="json")
    return values


def from_dict(values: Mapping[str, Any]) -> RunConfig:
    """Build and check a config from nested dicts, as read from YAML or JSON.

    Raises:
        UsageError: an unknown key or invalid value; the message names it and what is allowed.
    """
    if isinstance(log := values.get("log"), Mapping):
        values = {**values, "log": {key: value for key, value in log.items() if key not in REMOVED_LOG_KEYS}}
    try:
        return TypeAdapter(RunConfig).validate_python(values)
    except ValidationError as error:
        raise explain(error, RunConfig) from error


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
